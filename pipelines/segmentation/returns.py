"""Objects that leave and come back, or pass behind something: groups of tracks that take turns and look alike are one object.

While an object goes behind a post, its front is seen again before its back is gone: for a few frames two groups of tracks show
two parts of it, which one rigid motion must explain. What comes back beside another mover, and moves like it for the few frames
that are left, may have been taken for a part of that one: its colours tell.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from pipelines.artifacts import Video
from pipelines.segmentation.bodies import MIN_SPLIT_TRACKS, halves, misfit_soon
from pipelines.segmentation.grid_tracks import PointTracks
from pipelines.segmentation.rigidity import RigidityTest, frame_triplets, misfit

BINS = 6
"""Per colour channel."""
MIN_SIMILARITY = 0.6
"""Intersection of colour histograms."""
MIN_TRACKS, MIN_TRACK_SHARE = 3, 0.2
"""A group counts as seen in frames with at least so many of its tracks, and with this share of those of its best frame."""
MAX_COMMON_SHARE = 0.6
"""Of the frames of the one that is seen more briefly."""
MAX_MISFIT = 1.5
"""Of one motion for both in the common frames, relative to their own."""
MAX_UNTESTED_FRAMES = 3
"""So few common frames need not show enough tracks for that."""
MIN_PART_TRACKS = 8
UNLIKE = 0.2
"""A part that belongs elsewhere is so much more alike in colour to the other object than to the rest of its group ..."""
APART = 1.1
"""... and one motion for it and the rest is at least this much worse than one for each, over the shortest span."""
STRIDES = (1, 2, 3, 4, 5)
NOISE_PX = 0.1


@dataclass(frozen=True)
class _Seen:
    """What is compared between groups of tracks: where and when they are seen, and how often each shows each colour."""

    xy_px: Float[np.ndarray, "P T 2"]
    visible: Bool[np.ndarray, "P T"]
    colours: Float32[np.ndarray, "P bins"]


def link_returns(
    video: Video, tracks: PointTracks, label: Int[np.ndarray, " P"], rng: np.random.Generator
) -> tuple[Int[np.ndarray, " P"], list[str]]:
    """Labels in which a returning object has its first number again, and a sentence for each that did.

    The background (0) is never linked; numbers stay without gaps.
    """
    xy_px = np.where(tracks.visible[..., None], tracks.xy_px, 0.0)
    seen = _Seen(xy_px, tracks.visible, _track_colours(video, tracks))
    label = label.copy()
    found: list[tuple[Int[np.ndarray, " _"], float]] = []
    for g in range(1, int(label.max()) + 1):
        size = np.array([video.width, video.height])
        part, home, similarity = _strayed(seen, (xy_px - size / 2) / video.width, label, g, rng)
        if len(part):
            label[part] = home
            found.append((part, similarity))
    for later in range(int(label.max()), 1, -1):
        members = np.flatnonzero(label == later)
        similarity, first = _most_alike(seen, label, members, range(1, later))
        if similarity >= MIN_SIMILARITY:
            label[members] = first
            label[label > later] -= 1
            found.append((members, similarity))
    said = "an object that is seen at other times, {:.0f} % alike in colour, is taken for object {}"
    return label, [said.format(100 * similarity, label[group[0]]) for group, similarity in found]


def _strayed(
    seen: _Seen, centred: Float[np.ndarray, "P T 2"], label: Int[np.ndarray, " P"], g: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " n"], int, float]:
    """Tracks of a group that are another object's, its number, and how alike they are; no tracks where there are none."""
    none = np.zeros(0, int), g, 0.0
    members = np.flatnonzero(label == g)
    if len(members) < MIN_SPLIT_TRACKS:
        return none
    half = halves(centred[members], seen.visible[members], rng)
    parts = [members[half == 0], members[half == 1]]
    if min(map(len, parts)) < MIN_PART_TRACKS or misfit_soon(seen.xy_px, seen.visible, *parts) < APART:
        return none
    others = [k for k in range(1, int(label.max()) + 1) if k != g]
    unlike = max(MIN_SIMILARITY, _similarity(seen.colours, *parts) + UNLIKE)
    similarity, home, side = max((*_most_alike(seen, label, part, others), side) for side, part in enumerate(parts))
    return (parts[side], home, similarity) if similarity >= unlike else none


def _most_alike(
    seen: _Seen, label: Int[np.ndarray, " P"], members: Int[np.ndarray, " n"], among: Iterable[int]
) -> tuple[float, int]:
    """Of the groups that may be the same object at other times, the one most alike in colour: similarity and number."""
    alike = [(0.0, 0)]
    for g in among:
        group = np.flatnonzero(label == g)
        frames = _frames(seen.visible[group]), _frames(seen.visible[members])
        if _take_turns(*frames) and _move_as_one(seen, (group, members), frames[0] & frames[1]):
            alike.append((_similarity(seen.colours, group, members), g))
    return max(alike)


def _frames(visible: Bool[np.ndarray, "n T"]) -> Bool[np.ndarray, " T"]:
    """In which frames a group counts as seen."""
    n_tracks = visible.sum(0)
    return n_tracks >= max(MIN_TRACKS, MIN_TRACK_SHARE * n_tracks.max(initial=0))


def _take_turns(first: Bool[np.ndarray, " T"], other: Bool[np.ndarray, " T"]) -> bool:
    shorter = min(first.sum(), other.sum())
    return bool((first & other).sum() <= max(1, MAX_COMMON_SHARE * shorter))


def _move_as_one(
    seen: _Seen, groups: tuple[Int[np.ndarray, " m"], Int[np.ndarray, " n"]], common: Bool[np.ndarray, " T"]
) -> bool:
    """Whether one rigid motion explains two groups in their common frames, or these are too few to tell."""
    triplets = tuple(triplet for triplet in frame_triplets(len(common), STRIDES, len(common)) if common[triplet].all())
    test = RigidityTest(seen.xy_px, seen.visible, triplets, NOISE_PX)
    together = misfit(test, groups, groups, [test.motions(members) for members in groups])
    return together <= MAX_MISFIT or bool(not np.isfinite(together) and common.sum() <= MAX_UNTESTED_FRAMES)


def _similarity(colours: Float[np.ndarray, "P bins"], first: Int[np.ndarray, " m"], other: Int[np.ndarray, " n"]) -> float:
    """Intersection of the colour histograms of two groups."""
    share = [counts / max(counts.sum(), 1.0) for counts in (colours[first].sum(0), colours[other].sum(0))]
    return float(np.minimum(*share).sum())


def _track_colours(video: Video, tracks: PointTracks) -> Float32[np.ndarray, "P bins"]:
    """How often each track shows each colour."""
    counts = np.zeros((len(tracks.visible), BINS**3), np.float32)
    for t in range(video.n_frames):
        seen = np.flatnonzero(tracks.visible[:, t])
        x, y = np.floor(tracks.xy_px[seen, t]).astype(int).T
        quantised = video.frame(t)[np.clip(y, 0, video.height - 1), np.clip(x, 0, video.width - 1)].astype(int) * BINS // 256
        counts[seen, quantised @ np.array([BINS**2, BINS, 1])] += 1
    return counts
