"""Masks from promptable models: a person's prompts, or the motion segmentation's masks, answered and followed through the clip.

Segment Anything looks at single frames, so flow carries the objects and every known mask is a prompt (`sam_propagation`).
SAM 2 and EdgeTAM have a memory of the video, so each object needs one good frame.
"""

from enum import StrEnum
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pipelines import dependencies
from pipelines.artifacts import BACKGROUND, UNKNOWN, Flow, Labels, Video
from pipelines.errors import UsageError
from pipelines.progress import Progress
from pipelines.segmentation.prompts import ObjectPrompt, PromptFile
from pipelines.segmentation.sam_propagation import (
    Mask,
    Prompts,
    Propagated,
    interior_points,
    segment_with_sam,
    segment_with_sam2,
)
from third_party.prompt import Prompt

STROKE_POINTS = 3
"""A brush stroke becomes this many points well inside it."""
MIN_AREA_PX = 20


class SamModel(StrEnum):
    """Models that look at single frames, by the names of their weights."""

    VIT_B = "sam-vit-b"
    VIT_L = "sam-vit-l"
    VIT_H = "sam-vit-h"


class VideoModel(StrEnum):
    """Models with video memory, by the names of their weights."""

    SAM2_TINY = "sam2.1-hiera-tiny"
    SAM2_LARGE = "sam2.1-hiera-large"
    EDGETAM = "edgetam"


def segment_by_model(
    model: SamModel | VideoModel,
    *,
    video: Video,
    flow: Flow | None,
    prompts: PromptFile | None,
    motion: Labels | None,
    weights: Path | None,
    device: str,
    progress: Progress,
) -> Labels:
    """Follow the prompted objects and those of the motion segmentation; a person's word overrules the motion's mask.

    prompts: fitted to the video's size; motion: None where only prompted objects shall exist. Objects are numbered from 1
    in the order of their ids.
    Raises
        UsageError: nothing is prompted, or single frames shall be carried without flow.
        MissingDependencyError: the package or the weights are missing, or do not fit.
    """
    from third_party import weights as registry
    from third_party.sam import load_sam
    from third_party.sam2 import load_video_segmenter

    given = by_person(prompts, video.height, video.width) if prompts is not None else {}
    names = names_of(prompts, motion)
    with dependencies.third_party():
        path = registry.find(model, weights)
        if motion is not None and motion.n_objects == 1 and not given:
            # Nothing moves, which was said, and nobody asked for anything.
            return motion
        if isinstance(model, SamModel):
            if flow is None:
                raise UsageError(f"{model} follows objects by optical flow: run the stage flow first")
            known = combined(by_motion(motion, every_frame=True), given)
            found = segment_with_sam(video, flow, known, load_sam(path, device), progress=progress)
        else:
            known = combined(by_motion(motion, every_frame=False), given)
            found = segment_with_sam2(video, known, load_video_segmenter(path, device), progress)
    for note in notes(found, names):
        progress.note(note)
    return renumbered(found, names)


def by_person(prompts: PromptFile, height: int, width: int) -> Prompts:
    """A prompts file as the models take it."""
    found: dict[int, dict[int, Prompt]] = {}
    for prompt in prompts.prompts:
        found.setdefault(prompt.frame, {})[prompt.object] = as_prompt(prompt, height, width)
    return found


def as_prompt(prompt: ObjectPrompt, height: int, width: int) -> Prompt:
    """Clicks and box as they are; brush strokes by points inside them."""
    points = {
        positive: np.concatenate(
            [
                prompt.xy_px(positive=positive),
                interior_points(prompt.painted(height, width, positive=positive), STROKE_POINTS),
            ]
        )
        for positive in (True, False)
    }
    return Prompt(
        np.concatenate([points[True], points[False]]),
        np.arange(len(points[True]) + len(points[False])) < len(points[True]),
        None if prompt.box is None else np.array(prompt.box, float),
    )


def by_motion(labels: Labels | None, *, every_frame: bool) -> Prompts:
    """The masks of label maps, of every frame that shows an object, or of the one that shows most of it."""
    if labels is None:
        return {}
    found: dict[int, dict[int, Mask]] = {}
    for k in range(1, labels.n_objects):
        area_px = (labels.maps == k).sum((1, 2))
        frames = np.flatnonzero(area_px >= MIN_AREA_PX)
        for t in frames if every_frame else frames[[area_px[frames].argmax()]] if len(frames) else []:
            found.setdefault(int(t), {})[k] = labels.maps[t] == k
    return found


def combined(motion: Prompts, person: Prompts) -> Prompts:
    """Both; where both speak of one object in one frame, the person is right."""
    return {t: dict(motion.get(t, {})) | dict(person.get(t, {})) for t in sorted({*motion, *person})}


def names_of(prompts: PromptFile | None, motion: Labels | None) -> dict[int, str]:
    """Names of the objects by id: a person's names come before those of the motion segmentation."""
    names = {} if motion is None else dict(enumerate(motion.names))
    if prompts is not None:
        names |= {k: names.get(k, f"object {k}") for k in prompts.prompted}
        names |= {named.id: named.name for named in prompts.objects if named.id in names}
    return names


def notes(found: Propagated, names: dict[int, str]) -> list[str]:
    """What a person should know of each object that was not followed without doubt."""
    lines = []
    for k, hidden in found.hidden.items():
        corrected = int(found.corrected[k].sum())
        if hidden.any() or corrected:
            lines.append(
                f"{names[k]}: hidden in {int(hidden.sum())} of {len(hidden)} frames, the model's mask refused in {corrected}"
            )
    return lines


def renumbered(found: Propagated, names: dict[int, str]) -> Labels:
    """Label maps whose objects are numbered 1, 2, ... in the order of their ids; an object seen nowhere keeps its number."""
    ids = sorted(found.hidden)
    new = np.full(256, UNKNOWN, np.uint8)
    new[[BACKGROUND, *ids]] = np.arange(len(ids) + 1)
    maps: UInt8[np.ndarray, "T H W"] = new[found.maps]
    return Labels(maps, (names.get(BACKGROUND, "background"), *(names[k] for k in ids)))
