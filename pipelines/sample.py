"""The `sample` stage: as many valid scale combinations as wanted, and an account of what the video leaves open.

Candidates are drawn exactly from the scale zone, accepted by the scale network, and checked against the masks (DESIGN
section 6). Beside `samples.npz` and `samples.csv` it writes `sample.json` (intervals, what bounds them, acceptance) and
pictures of the valid set. Log scales have one column per object of the scene, column 0 being the background, 0.
"""

from pydantic import Field

from pipelines.artifacts import Samples
from pipelines.scene.scaled_scene import ScaledScene
from pipelines.scene.zone_sampling import Measure
from pipelines.stage import StageConfig, StageContext


class SampleConfig(StageConfig):
    """How many combinations, and what makes one acceptable."""

    n: int = Field(default=1000, ge=1)
    """How many combinations."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of the draws: the same seed gives the same samples."""
    measure: Measure = Measure.LINEAR
    """Uniform in scale, so that an object is as likely at any depth, as in the paper; or in log scale."""
    even: bool = True
    """Spread samples evenly over the valid set (each of them is still uniform); off: they are independent."""
    min_score: float = Field(default=0.9, ge=0, le=1)
    """The network's score that a combination needs; 0 leaves the network out. Where nothing has more than 0.5, that will do."""
    check_masks: bool = True
    """Also require that the combination agrees with the masks, ray by ray."""
    max_draws: int = Field(default=1_000_000, ge=1)
    """Candidates tried before giving up."""
    maps: bool = True
    """Draw the pictures of the valid set."""
    evidence_width_px: int = Field(default=160, ge=16)
    """Width at which objects are rendered for the check, when the scene holds no evidence from training."""
    evidence_frames: int = Field(default=32, ge=1)
    """Number of frames for the same purpose, evenly spread."""


def sample(config: SampleConfig, *, scene: ScaledScene, context: StageContext) -> Samples:
    """Draw valid scale combinations and explain the valid set.

    A scene of one object has one combination, and it is returned. Fewer than `n` samples are returned, with a note, when
    `max_draws` candidates yield no more.
    Raises ReconstructionError: no combination is valid; the message names what contradicts what.
    """
    from pipelines.scene.sampling import draw_samples

    return draw_samples(config, scene, context)
