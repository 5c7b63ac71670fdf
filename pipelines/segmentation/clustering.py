"""Tracks to rigidly moving objects (DESIGN section 4).

Affinities from shared motion hypotheses -> many small spectral clusters -> merged where one rigid motion explains them ->
every track to its best motion -> new objects from what no motion explains.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from pipelines.segmentation.affinity import frame_gaps, motion_affinity
from pipelines.segmentation.grid_tracks import PointTracks
from pipelines.segmentation.grouping import (
    GroupingRules,
    Groups,
    merge_continuous,
    merge_down_to,
    merge_predicted,
    neighbour_links,
)
from pipelines.segmentation.refinement import energy, reassign, spawn
from pipelines.segmentation.rigidity import RigidityTest, frame_triplets
from pipelines.segmentation.spectral import embedding, sparsified, spectral_clusters

NO_GROUP = -1
AGREEING_SHARE = 0.98
"""Of the tracks: two starts that end in the same partition end the search."""


@dataclass(frozen=True)
class ClusteringOptions:
    """What the clustering needs to know besides the tracks."""

    hypotheses: int = 200
    """Random motion hypotheses per frame gap and model."""
    preferred: float = 0.1
    """Share of the hypotheses that a track prefers."""
    gap_strides: tuple[int, ...] = (1, 3, 6, 10)
    gaps_per_stride: int = 12
    triplet_strides: tuple[int, ...] = (2, 5, 9)
    triplets_per_stride: int = 7
    noise_px: float = 0.1
    """Standard deviation below which track positions are never trusted."""
    first_clusters: int = 20
    tracks_per_cluster: int = 12
    """Fewer clusters are made when there are not so many tracks for each."""
    rounds: int = 2
    """Of giving every track to its best motion and looking for new objects."""
    starts: int = 3
    """First clusters that are tried, at most, where tracks are few. Of single ones, on a small clip, two of five ended without
    one of the movers."""
    few_tracks: int = 600
    """Of more tracks clusters are pure at once, and a start takes 20 s."""
    rules: GroupingRules = field(default_factory=GroupingRules)


def cluster_tracks(
    tracks: PointTracks,
    *,
    width: float,
    height: float,
    options: ClusteringOptions,
    n_groups: int | None,
    rng: np.random.Generator,
) -> Int[np.ndarray, " P"]:
    """Group of each track: 0 the background, 1 ... the movers by falling number of tracks, -1 for tracks of none.

    n_groups: their number if it is known, the background included.
    """
    xy_px = np.where(tracks.visible[..., None], tracks.xy_px, 0.0)
    n_tracks, n_frames = tracks.visible.shape
    if n_tracks < options.tracks_per_cluster:
        return np.zeros(n_tracks, int)
    gaps = frame_gaps(n_frames, options.gap_strides, options.gaps_per_stride)
    centred = (xy_px - np.array([width, height]) / 2) / width
    affinity = motion_affinity(
        centred, tracks.visible, gaps, hypotheses=options.hypotheses, preferred=options.preferred, rng=rng
    )
    if not (affinity - np.diag(np.diag(affinity))).any():
        # No two tracks are seen together for long enough to be compared.
        return np.zeros(n_tracks, int)
    first = int(np.clip(n_tracks // options.tracks_per_cluster, n_groups or 2, options.first_clusters))
    _, vectors = embedding(sparsified(affinity, max(8, min(40, n_tracks // 10))), first)
    test = RigidityTest(
        xy_px,
        tracks.visible,
        frame_triplets(n_frames, options.triplet_strides, options.triplets_per_stride),
        options.noise_px,
    )
    links = neighbour_links(xy_px, tracks.visible, max(1, n_frames // 8))
    # The first start takes the numbers that it would take alone, so what follows does not depend on whether there are others.
    others = rng.spawn(options.starts - 1 if n_tracks <= options.few_tracks else 0)
    tried: list[Groups] = []
    for numbers in (rng, *others):
        groups = Groups(test, affinity, links, spectral_clusters(vectors, first, numbers))
        _settle(groups, options, n_groups, np.array([width, height], float))
        agrees = any(agreement(groups.label, other.label) >= AGREEING_SHARE for other in tried)
        tried.append(groups)
        if agrees:
            break
    return _numbered(min(tried, key=energy), tracks, options.rules)


def agreement(one: Int[np.ndarray, " P"], other: Int[np.ndarray, " P"]) -> float:
    """Share of the tracks in groups that are the same in both partitions, whatever their numbers."""
    _, a = np.unique(one, return_inverse=True)
    _, b = np.unique(other, return_inverse=True)
    common = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(common, (a, b), 1)
    return float(min(common.max(0).sum(), common.max(1).sum()) / len(one))


def _settle(groups: Groups, options: ClusteringOptions, n_groups: int | None, size_px: Float[np.ndarray, "2"]) -> None:
    rules, at_least = options.rules, n_groups or 1

    def spans(members: Int[np.ndarray, " n"]) -> bool:
        return _spans(groups.test, members, size_px)

    settled: frozenset[int] = frozenset()
    for i in range(options.rounds + 1):
        merge_continuous(groups, rules, at_least, settled)
        merge_predicted(groups, rules, spans, at_least, settled)
        reassign(groups)
        settled = frozenset(groups.ids)
        if i == options.rounds or (n_groups is not None and len(groups.own) >= n_groups) or not spawn(groups):
            break
    if n_groups is not None:
        merge_down_to(groups, n_groups)


def _spans(test: RigidityTest, members: Int[np.ndarray, " n"], size_px: Float[np.ndarray, "2"]) -> bool:
    """Whether the tracks reach over 90 % of the image's width or height in most frames in which they are seen."""
    wide, seen = 0, 0
    for t in range(test.visible.shape[1]):
        points = test.xy_px[members[test.visible[members, t]], t]
        if len(points) >= 2:
            seen += 1
            wide += bool((np.ptp(points, axis=0) > 0.9 * size_px).any())
    return 2 * wide > seen


def _numbered(groups: Groups, tracks: PointTracks, rules: GroupingRules) -> Int[np.ndarray, " P"]:
    """The background first: the group with most tracks times their spread in the image."""
    large = [g for g in groups.ids if len(groups.members(g)) >= rules.min_tracks]
    kept = large or groups.ids[:1]
    centres = np.nanmean(np.where(tracks.visible[..., None], tracks.xy_px, np.nan), axis=1)
    weight = [len(groups.members(g)) * np.sqrt(np.prod(centres[groups.members(g)].std(0) + 1)) for g in kept]
    background = kept[int(np.argmax(weight))]
    order = [background, *(g for g in kept if g != background)]
    label = np.full(len(groups.label), NO_GROUP)
    for number, group in enumerate(order):
        label[groups.label == group] = number
    return label
