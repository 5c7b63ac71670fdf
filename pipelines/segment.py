"""Stage `segment`: which object is seen at each pixel of each frame.

Motion segmentation needs no clicks and no weights; masks can be imported; SAM and SAM 2 refine prompts or the motion result.
"""

from enum import StrEnum
from pathlib import Path
from typing import assert_never

from pydantic import Field

from pipelines.artifacts import Flow, Labels, Video
from pipelines.errors import UsageError
from pipelines.stage import StageConfig, StageContext

VERSION = 1
AUTOMATIC = "automatic"
"""Folder, inside the result, of the labels as they were before the corrections of a prompts file."""


class SegmentMethod(StrEnum):
    """Where the masks come from."""

    MOTION = "motion"
    MASKS = "masks"


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
    seed: int = 0


def segment(config: SegmentConfig, *, video: Video, flow: Flow | None, context: StageContext) -> Labels:
    """Label maps of the whole clip, saved into `context.out` with `overlay.mp4` for people.

    Raises
        UsageError: the method lacks what it needs (masks, flow).
        InputError: masks or prompts that do not fit the video, or a cut in the video.
    """
    from pipelines.segmentation.overlay import write_overlay

    match config.method:
        case SegmentMethod.MASKS:
            labels = _import(config, video, context)
        case SegmentMethod.MOTION:
            labels = _by_motion(config, video, flow, context)
        case _:
            assert_never(config.method)
    if config.prompts is not None:
        labels = _corrected(config.prompts, labels, video, flow, context)
    labels.save(context.out)
    write_overlay(context.out / "overlay.mp4", video, labels.maps, context.progress)
    return labels


def _import(config: SegmentConfig, video: Video, context: StageContext) -> Labels:
    from pipelines.segmentation.masks import import_masks

    if config.masks is None:
        raise UsageError("method masks needs the label maps: give their folder or .npy file with --masks PATH")
    imported = import_masks(config.masks, n_frames=video.n_frames, width=video.width, height=video.height)
    for note in imported.notes:
        context.progress.note(note)
    return Labels(imported.maps, imported.names)


def _by_motion(config: SegmentConfig, video: Video, flow: Flow | None, context: StageContext) -> Labels:
    from pipelines.segmentation.motion import segment_by_motion

    if flow is None:
        raise UsageError("method motion needs optical flow: run the stage flow first")
    key = [VERSION, config.model_dump(mode="json", exclude={"prompts"}), _content(video, flow)]

    def make(folder: Path) -> None:
        segment_by_motion(config, video=video, flow=flow, context=context).save(folder)

    # Kept by itself, so that correcting it by prompts does not find the motions again.
    return Labels.load(context.items.get("motion", key, make))


def _content(video: Video, flow: Flow) -> str:
    """Content key of the frames and their flow."""
    import hashlib

    content = hashlib.blake2b()
    for path in (*(video.path(t) for t in range(video.n_frames)), *(flow.path(t, u) for t, u in flow.pairs)):
        content.update(path.read_bytes())
    return content.hexdigest()


def _corrected(path: Path, automatic: Labels, video: Video, flow: Flow | None, context: StageContext) -> Labels:
    """The automatic result after a person's corrections; it is kept in `automatic/`, for further ones."""
    from pipelines.segmentation.prompted import apply_prompts
    from pipelines.segmentation.prompts import PromptFile

    automatic.save(context.out / AUTOMATIC)
    prompts = PromptFile.load(path)
    return apply_prompts(prompts, video=video, flow=flow, automatic=automatic, progress=context.progress)
