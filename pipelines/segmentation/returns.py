"""Objects that leave and come back, or pass behind something: groups of tracks that take turns and look alike are one object.

While an object goes behind a post, its front is seen again before its back is gone: for a few frames two groups of tracks show
two parts of it, which one rigid motion must explain.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.artifacts import Video
from pipelines.segmentation.grid_tracks import PointTracks
from pipelines.segmentation.rigidity import RigidityTest, frame_triplets, misfit

BINS = 6
"""Per colour channel."""
MIN_SIMILARITY = 0.6
"""Intersection of colour histograms."""
MIN_TRACKS = 3
"""A group counts as seen in frames with at least so many of its tracks."""
MAX_COMMON_SHARE = 0.6
"""Of the frames of the one that is seen more briefly."""
MAX_MISFIT = 1.5
"""Of one motion for both in the common frames, relative to their own."""
MAX_UNTESTED_FRAMES = 3
"""So few common frames need not show enough tracks for that."""
STRIDES = (1, 2, 3, 4, 5)
NOISE_PX = 0.1


def link_returns(video: Video, tracks: PointTracks, label: Int[np.ndarray, " P"]) -> tuple[Int[np.ndarray, " P"], list[str]]:
    """Labels in which a returning object has its first number again, and a sentence for each that did.

    The background (0) is never linked; numbers stay without gaps.
    """
    n_groups = int(label.max()) + 1
    xy_px = np.where(tracks.visible[..., None], tracks.xy_px, 0.0)
    seen = np.stack([tracks.visible[label == g].sum(0) >= MIN_TRACKS for g in range(n_groups)])
    colours = _histograms(video, tracks, label, n_groups)
    label, notes = label.copy(), []
    for later in range(n_groups - 1, 1, -1):
        alike = [
            (float(np.minimum(colours[g], colours[later]).sum()), g)
            for g in range(1, later)
            if _take_turns(seen[g], seen[later])
            and _move_as_one(xy_px, tracks.visible, label, (g, later), seen[g] & seen[later])
        ]
        if alike and max(alike)[0] >= MIN_SIMILARITY:
            similarity, first = max(alike)
            notes.append(
                f"an object that is seen at other times, {100 * similarity:.0f} % alike in colour, is taken for object {first}"
            )
            label[label == later] = first
            label[label > later] -= 1
            seen[first] |= seen[later]
    return label, notes


def _take_turns(first: Bool[np.ndarray, " T"], other: Bool[np.ndarray, " T"]) -> bool:
    shorter = min(first.sum(), other.sum())
    return bool((first & other).sum() <= max(1, MAX_COMMON_SHARE * shorter))


def _move_as_one(
    xy_px: Float[np.ndarray, "P T 2"],
    visible: Bool[np.ndarray, "P T"],
    label: Int[np.ndarray, " P"],
    pair: tuple[int, int],
    common: Bool[np.ndarray, " T"],
) -> bool:
    """Whether one rigid motion explains two groups in their common frames, or these are too few to tell."""
    triplets = tuple(triplet for triplet in frame_triplets(len(common), STRIDES, len(common)) if common[triplet].all())
    test = RigidityTest(xy_px, visible, triplets, NOISE_PX)
    groups = [np.flatnonzero(label == g) for g in pair]
    together = misfit(test, groups, groups, [test.motions(members) for members in groups])
    return together <= MAX_MISFIT or bool(not np.isfinite(together) and common.sum() <= MAX_UNTESTED_FRAMES)


def _histograms(video: Video, tracks: PointTracks, label: Int[np.ndarray, " P"], n_groups: int) -> Float[np.ndarray, "G bins"]:
    """Colours at each group's tracks in all frames; rows sum to 1."""
    counts = np.full((n_groups, BINS**3), 1e-9)
    for t in range(video.n_frames):
        visible = tracks.visible[:, t] & (label >= 0)
        x, y = np.floor(tracks.xy_px[visible, t]).astype(int).T
        quantised = video.frame(t)[np.clip(y, 0, video.height - 1), np.clip(x, 0, video.width - 1)].astype(int) * BINS // 256
        np.add.at(counts, (label[visible], quantised @ np.array([BINS**2, BINS, 1])), 1)
    return counts / counts.sum(1, keepdims=True)
