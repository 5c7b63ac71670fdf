"""The `train` stage: object fields, refined poses, and valid scales, from a video, its labels and its reconstruction.

Three stages as in OSN (Song et al. 2024, section 3): every object alone; then fields under one valid scale combination per
step, alternating with rounds that learn which combinations are valid; then fields only. See docs/DESIGN.md section 5.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from pipelines.artifacts import Labels, Sfm, Video, write_json
from pipelines.errors import InputError, ReconstructionError, UsageError
from pipelines.stage import StageConfig, StageContext

if TYPE_CHECKING:
    from pipelines.scene.scene import Scene


class Preset(StrEnum):
    """How much time training takes."""

    FAST = "fast"
    """Minutes on two CPU cores."""
    DEFAULT = "default"
    """Half an hour on one CPU core, minutes on a GPU."""
    PAPER = "paper"
    """The sizes of the paper: for a GPU."""


class TrainConfig(StageConfig):
    """Options of training. The defaults are those of the `default` preset; `TrainConfig.preset` gives the others."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of all random numbers: the same seed gives the same scene."""
    max_side_px: int = Field(default=384, ge=16)
    """Longer side of the images that are learned from; larger videos are reduced to it."""

    steps: int = Field(default=6_000, ge=1)
    """Steps of the fields."""
    bootstrap_share: float = Field(default=0.25, ge=0, le=1)
    """Share of the steps in which every object is trained alone."""
    alternate_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the steps that alternate with rounds of learning the scales; the rest trains fields only."""
    rounds: int = Field(default=5, ge=0)
    """How often the scales are learned. 0: fields are trained alone to the end, and the scales are learned once then."""

    rays_per_step: int = Field(default=2048, ge=16)
    """Rays per step, over all objects."""
    mover_share: float = Field(default=0.4, ge=0, le=1)
    """Share of the rays on the moving objects' pixels, the same for each."""
    sparse_share: float = Field(default=0.15, ge=0, lt=1)
    """Share of the rays that go through reconstructed points, whose depth is known."""
    n_bins: int = Field(default=96, ge=4)
    """Cells along a ray in which the density cache proposes samples."""
    n_samples: int = Field(default=24, ge=4)
    """Samples per ray and object."""
    sample_floor: float = Field(default=0.1, gt=0)
    """Share of a ray's samples spread evenly, whatever is already known about its surfaces."""
    min_colour_weight: float = Field(default=2e-3, ge=0)
    """Samples that weigh less in their own object are not asked for a colour."""

    field: Literal["grid", "tensorf"] = "grid"
    """Representation of an object: nested grids (quick on a CPU), or vector-matrix factors (TensoRF)."""
    resolution_start: int = Field(default=64, ge=8)
    """Nodes per axis of the background's fields at the first step."""
    resolution_final: int = Field(default=160, ge=8)
    """... and after the last refinement."""
    mover_resolution_ratio: float = Field(default=0.5, gt=0)
    """Resolution of a moving object over that of the background."""
    upsample_at: tuple[float, ...] = (0.06, 0.12, 0.2)
    """Shares of the steps after which the fields become finer."""
    density_components: int = Field(default=3, ge=1)
    """Of density: nested grids, or TensoRF's components per plane."""
    colour_components: int = Field(default=4, ge=1)
    """Of colour: channels per nested grid, or TensoRF's components per plane."""
    colour_levels: int = Field(default=8, ge=1)
    """Grid only: nested grids of colour."""
    table_bits: int = Field(default=19, ge=8, le=24)
    """Grid only: each colour grid has at most 2 to this power rows; finer ones are hashed."""
    colour_resolution: int = Field(default=512, ge=16)
    """Grid only: finest resolution of colour."""
    hidden: int = Field(default=64, ge=8)
    """Width of the colour network."""
    cache_resolution: int = Field(default=96, ge=8)
    """Cells per axis in which density is remembered, to place samples; moving objects have `mover_resolution_ratio` of it."""

    density_rate: float = Field(default=0.04, gt=0)
    """Learning rate of density grids (TensoRF's factors use `table_rate`)."""
    table_rate: float = Field(default=2e-2, gt=0)
    """Learning rate of colour tables, and of TensoRF's factors."""
    network_rate: float = Field(default=2e-3, gt=0)
    """Learning rate of the colour networks."""
    pose_rate: float = Field(default=0.0, ge=0)
    """Learning rate of the pose corrections, in radians and object distances (5e-4 is a good one); 0 keeps the given poses.
    Only where tracks were poor do images at these sizes say more about poses than the tracks did."""
    final_rate: float = Field(default=0.1, gt=0, le=1)
    """Learning rates at the end over those at the start."""
    refine_poses_from: float = Field(default=0.3, ge=0, le=1)
    """Share of the steps after which poses are refined."""

    depth_weight: float = Field(default=0.1, ge=0)
    """Weight of the reconstructed points' depths."""
    unseen_share: float = Field(default=0.06, ge=0, lt=1)
    """Rays, as a share of the others, into background that no frame shows, which is given a guessed depth."""
    guess_weight: float = Field(default=0.1, ge=0)
    """Weight of the depth interpolated between reconstructed points."""
    depth_error_px: float = Field(default=1.0, gt=0)
    """Reprojection error at which a reconstructed point's depth counts half."""
    segmentation_weight: float = Field(default=0.02, ge=0)
    """Weight of the masks (cross-entropy)."""
    outside_weight: float = Field(default=0.02, ge=0)
    """Bootstrap: how strongly background pixels speak against a moving object on their ray (it may be hidden there)."""
    hidden_weight: float = Field(default=1e-3, ge=0)
    """After the bootstrap: weak preference for nothing where a moving object could only be hidden."""
    smoothness_weight: float = Field(default=1e-3, ge=0)
    """Weight of total variation of the density."""
    distortion_weight: float = Field(default=1e-2, ge=0)
    """Weight of the distortion loss, which keeps density together along a ray."""

    near_share: float = Field(default=0.05, gt=0)
    """Near limit of every moving object, as a share of the background's median depth: an assumption."""
    far_share: float = Field(default=1.2, gt=0)
    """Far limit of every moving object, as a share of the background's largest depth."""
    evidence_width_px: int = Field(default=128, ge=8)
    """Width of the images from which the order of objects is read."""
    evidence_frames: int = Field(default=32, ge=1)
    """At most this many frames, evenly spread, are rendered for that."""
    combinations: int = Field(default=65_536, ge=1)
    """Scale combinations labelled per round for the scale network: counting costs microseconds for each."""
    scale_steps: int = Field(default=600, ge=0)
    """Steps of the scale network per round; the last round, whose network samples are drawn with, has three times as many."""

    checkpoint_every_steps: int = Field(default=1000, ge=1)
    """An interrupted run resumes from the last of these, or from the interrupted step where it could still be saved."""
    preview_every_steps: int = Field(default=2000, ge=0)
    """0: no preview images."""
    log_every_steps: int = Field(default=50, ge=1)
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = False
    """Also write the figures as TensorBoard events, into `train/tensorboard` (extra `tensorboard`)."""

    @model_validator(mode="after")
    def _stages_fit(self) -> "TrainConfig":
        if self.bootstrap_share + self.alternate_share > 1:
            raise ValueError(
                f"bootstrap_share {self.bootstrap_share} and alternate_share {self.alternate_share} add up to more than 1"
            )
        return self

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "TrainConfig":
        """Options of a preset, with single ones changed.

        Raises UsageError: there is no such preset.
        """
        try:
            return cls(**(PRESETS[Preset(name)] | changes))
        except ValueError as error:
            if name in PRESETS:
                raise
            raise UsageError(f"there is no preset '{name}'; choose one of {', '.join(PRESETS)}") from error


PRESETS: dict[Preset, dict[str, Any]] = {
    Preset.FAST: {
        "max_side_px": 192,
        "steps": 1200,
        "n_bins": 64,
        "n_samples": 16,
        "resolution_final": 128,
        "table_bits": 17,
        "colour_resolution": 320,
        "colour_components": 2,
        "colour_levels": 10,
        "cache_resolution": 64,
        "evidence_frames": 16,
        "rounds": 3,
        "checkpoint_every_steps": 200,
        "preview_every_steps": 500,
    },
    Preset.DEFAULT: {},
    Preset.PAPER: {
        "max_side_px": 100_000,
        "steps": 30_000,
        "field": "tensorf",
        "resolution_start": 80,
        "resolution_final": 200,
        "density_components": 16,
        "colour_components": 48,
        "n_bins": 192,
        "n_samples": 64,
        "hidden": 128,
        "cache_resolution": 128,
        "pose_rate": 5e-4,
    },
}
"""What each preset changes."""


def train(config: TrainConfig, *, video: Video, labels: Labels, sfm: Sfm, context: StageContext) -> "Scene":
    """Train the scene; continues from the checkpoint that an interrupted run of the same configuration left in `context.out`.

    Raises InputError: the inputs do not belong together, or the background was not reconstructed.
    Raises ReconstructionError: training diverged.
    """
    from pipelines.evaluation.training import summarise
    from pipelines.scene import trainer

    _check_inputs(video, labels, sfm)
    scene = trainer.run(config, video, labels, sfm, context)
    scene.save(context.out)
    described = summarise(scene, video, labels, max_side_px=config.max_side_px)
    write_json(context.out / "summary.json", described)
    return scene


def _check_inputs(video: Video, labels: Labels, sfm: Sfm) -> None:
    size = (video.n_frames, video.height, video.width)
    if labels.maps.shape != size:
        raise InputError(
            f"label maps are {labels.maps.shape}, the video is {size} (frames, height, width): run `segment` again"
        )
    if len(sfm.objects) != labels.n_objects:
        raise InputError(f"{len(sfm.objects)} objects reconstructed for {labels.n_objects} labelled ones: run `sfm` again")
    if not sfm.objects[0].usable:
        raise ReconstructionError(
            f"the background was not reconstructed ({sfm.objects[0].reason}): there is no world to put objects into"
        )
