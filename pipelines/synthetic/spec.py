"""What scene to make: a few numbers and a seed fix every pixel."""

from dataclasses import dataclass
from enum import StrEnum

from pipelines.errors import UsageError

MAX_MOVERS = 8


class Surroundings(StrEnum):
    """What stands still. ROOM: walls, pillars, blocks. YARD: open ground, houses, trees, sky."""

    ROOM = "room"
    YARD = "yard"


class Variant(StrEnum):
    """The standard scene, and one deliberate difficulty each."""

    STANDARD = "standard"
    STATIC_CAMERA = "static-camera"
    ROTATION_ONLY = "rotation-only"
    """The camera turns on the spot."""
    ONE_OBJECT = "one-object"
    NO_MOVER = "no-mover"
    LEAVE_AND_RETURN = "leave-and-return"
    """The first mover leaves the picture and comes back."""
    MOVE_AS_ONE = "move-as-one"
    """The first two movers share one rigid motion."""
    MANY = "many"
    """Eight movers, K = 9."""
    TINY_OBJECT = "tiny-object"
    """The first mover is a few pixels wide."""
    TEXTURELESS_OBJECT = "textureless-object"
    """The first mover has one plain colour."""
    MOTION_BLUR = "motion-blur"
    """Long exposure: the frame's whole duration."""
    CUT = "cut"
    """Halfway the film jumps to another camera position."""


@dataclass(frozen=True)
class SceneSpec:
    """seed and the rest fix the scene completely. Raises UsageError on a number of movers or a size that cannot be made."""

    seed: int = 0
    n_movers: int = 3
    n_frames: int = 32
    width: int = 384
    height: int = 288
    fps: float = 12.0
    variant: Variant = Variant.STANDARD
    surroundings: Surroundings | None = None
    """None: chosen by the seed."""
    noise_levels: float = 0.0
    """Standard deviation of the sensor noise, in 8-bit levels."""
    candidates: int = 6
    """How many placements of the movers are compared; the one with the best occlusions is kept."""

    def __post_init__(self) -> None:
        if not 0 <= self.n_movers <= MAX_MOVERS:
            raise UsageError(f"a synthetic scene with {self.n_movers} movers cannot be made: choose 0 to {MAX_MOVERS}")
        if self.n_frames < 1 or self.width < 16 or self.height < 16:
            raise UsageError(
                f"a synthetic scene of {self.n_frames} frames of {self.width} x {self.height} px is too small: "
                "choose at least one frame of 16 x 16 px"
            )
        if self.variant is Variant.MOVE_AS_ONE and self.n_movers < 2:
            raise UsageError(f"variant move-as-one needs two movers, not {self.n_movers}")

    @property
    def movers(self) -> int:
        """How many movers the variant really has."""
        match self.variant:
            case Variant.NO_MOVER:
                return 0
            case Variant.ONE_OBJECT:
                return 1
            case Variant.MANY:
                return MAX_MOVERS
            case _:
                return self.n_movers


def demo_spec(seed: int = 1) -> SceneSpec:
    """The scene of `osn demo`."""
    return SceneSpec(seed=seed, n_movers=3, n_frames=28, width=320, height=240, surroundings=Surroundings.ROOM, candidates=4)
