"""Stage `segment`: which object is seen at each pixel of each frame.

Motion segmentation needs no clicks and no weights; masks can be imported; SAM and SAM 2 refine prompts or the motion result.
"""

from enum import StrEnum
from pathlib import Path
from typing import assert_never

from pydantic import Field

from pipelines.artifacts import Flow, Labels, Video
from pipelines.dependencies import third_party
from pipelines.errors import UsageError
from pipelines.segmentation.learned import SamModel, VideoModel
from pipelines.stage import StageConfig, StageContext

MOTION_VERSION = 6
AUTOMATIC = "automatic"
"""Folder, inside the result, of the labels as they were before the corrections of a prompts file."""


class SegmentMethod(StrEnum):
    """Where the masks come from."""

    MOTION = "motion"
    """Found by their motion: no clicks, no weights."""
    MASKS = "masks"
    """Imported label maps."""
    SAM = "sam"
    """Segment Anything, prompted by a person or by the motion result, carried through the video by flow."""
    SAM2 = "sam2"
    """SAM 2 or EdgeTAM, which remember the video."""


class SegmentConfig(StageConfig):
    """Options of the segmentation."""

    method: SegmentMethod = SegmentMethod.MOTION
    masks: Path | None = None
    """Folder of PNG (DAVIS palette, grey, KITTI MOTS) or .npy label maps, or one .npy stack; for method `masks`."""
    prompts: Path | None = None
    """JSON file of corrections: clicks, boxes, strokes, merges (docs: `pipelines.segmentation.prompts`)."""
    objects: int | None = Field(None, ge=0, le=32)
    """Number of movers, the background not counted; found when not given."""
    max_tracks: int = Field(2000, ge=50)
    """Tracks that are clustered; time grows with its square."""
    sam_model: SamModel = SamModel.VIT_B
    sam2_model: VideoModel = VideoModel.SAM2_TINY
    weights: Path | None = None
    """Checkpoint of the model, when it is not in the weights folder."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of clustering."""


def segment(config: SegmentConfig, *, video: Video, flow: Flow | None, context: StageContext) -> Labels:
    """Label maps of the whole clip, saved into `context.out` with `overlay.mp4` for people.

    Raises
        UsageError: the method lacks what it needs (masks, flow, prompts).
        MissingDependencyError: the weights of a learned model, or the package that runs it, are missing.
        InputError: masks or prompts that do not fit the video, or a cut in the video.
    """
    from pipelines.segmentation.overlay import write_overlay

    match config.method:
        case SegmentMethod.MASKS:
            labels = _import(config, video, context)
        case SegmentMethod.MOTION:
            labels = _by_motion(config, video, flow, context)
        case SegmentMethod.SAM | SegmentMethod.SAM2:
            labels = _by_model(config, video, flow, context)
        case _:
            assert_never(config.method)
    if config.prompts is not None and config.method in (SegmentMethod.MASKS, SegmentMethod.MOTION):
        labels = _corrected(config.prompts, labels, video, flow, context)
    labels.save(context.out)
    write_overlay(context.out / "overlay.mp4", video, labels.maps, context.progress)
    return labels


def _import(config: SegmentConfig, video: Video, context: StageContext) -> Labels:
    from pipelines.segmentation.masks import import_masks

    if config.masks is None:
        raise UsageError("method masks needs the label maps: give their folder or .npy file with --masks PATH")
    size = {"width": video.width, "height": video.height}
    imported = import_masks(config.masks, n_frames=video.n_frames, **size, shown=video.shown)
    for note in imported.notes:
        context.progress.note(note)
    return Labels(imported.maps, imported.names)


def _by_motion(config: SegmentConfig, video: Video, flow: Flow | None, context: StageContext) -> Labels:
    from pipelines.segmentation.motion import segment_by_motion

    if flow is None:
        raise UsageError("method motion needs optical flow: run the stage flow first")
    key = [MOTION_VERSION, config.model_dump(mode="json", include={"objects", "max_tracks", "seed"}), _content(video, flow)]

    def make(folder: Path) -> None:
        segment_by_motion(config, video=video, flow=flow, context=context).save(folder)

    # Kept by itself, so that correcting it by prompts does not find the motions again.
    return Labels.load(context.items.get("motion", key, make))


def _by_model(config: SegmentConfig, video: Video, flow: Flow | None, context: StageContext) -> Labels:
    """A learned model, prompted by a person, by the motion segmentation (after a person's merges), or both."""
    from pipelines.segmentation.learned import segment_by_model
    from pipelines.segmentation.prompted import edited
    from pipelines.segmentation.prompts import Base, PromptFile
    from third_party import weights as registry

    model = config.sam_model if config.method is SegmentMethod.SAM else config.sam2_model
    # Before the minutes of work that come first.
    with third_party():
        registry.find(model, config.weights)
    prompts = None
    if config.prompts is not None:
        prompts = PromptFile.load(config.prompts).fitted(video.width, video.height, video.n_frames)
    motion = None
    if prompts is None or prompts.base is Base.AUTOMATIC:
        motion = _by_motion(config, video, flow, context)
        motion.save(context.out / AUTOMATIC)
        if prompts is not None:
            motion = Labels(edited(prompts, motion, motion.maps.shape), motion.names)
    return segment_by_model(
        model,
        video=video,
        flow=flow,
        prompts=prompts,
        motion=motion,
        weights=config.weights,
        device=context.device,
        progress=context.progress,
    )


def _content(video: Video, flow: Flow) -> str:
    """Content key of the frames and their flow."""
    import hashlib

    content = hashlib.blake2b()
    for path in (*(video.path(t) for t in range(video.n_frames)), *(flow.path(t, u) for t, u in flow.pairs)):
        content.update(path.read_bytes())
    return content.hexdigest()


def _corrected(path: Path, automatic: Labels, video: Video, flow: Flow | None, context: StageContext) -> Labels:
    """The automatic result after a person's corrections; it is kept in `automatic/`, for further ones."""
    from pipelines.segmentation.prompted import Prompter, apply_prompts, predictor_of
    from pipelines.segmentation.prompts import PromptFile

    automatic.save(context.out / AUTOMATIC)
    prompts = PromptFile.load(path)
    prompter = Prompter(video, flow, automatic, predictor_of(prompts.model, context.device))
    return apply_prompts(prompts, prompter, progress=context.progress)
