"""From many small clusters of tracks to objects: what moves as one rigid body, and hangs together, is one object.

Three kinds of evidence, each where the others are blind:

    continuity   neighbouring tracks on either side of a cluster boundary prefer the same motion hypotheses: the surface goes on
    rigidity     one three-view motion explains both clusters as well as each explains itself
    prediction   the motion of one cluster alone says where the other goes. A mover seen by a camera that only turns passes the
                 joint test (it looks like a near static thing seen by a translating camera), but nothing predicts it
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.segmentation.rigidity import RigidityTest, misfit
from pipelines.segmentation.three_view import ThreeViewMotion

MIN_BOUNDARY_LINKS = 4
LONGEST_LINK = 3.0
"""Links between neighbouring tracks are at most this many times the median length."""


@dataclass(frozen=True)
class GroupingRules:
    """When two clusters are one object."""

    continuity: float = 0.65
    """Affinity across the boundary over that within the clusters, from which the surface is taken to go on."""
    misfit: float = 2.0
    """Residual under the common motion over the own one, from which clusters are not one rigid body."""
    prediction: float = 5.0
    """The same, for a motion that was fitted to one cluster only."""
    min_tracks: int = 8
    """An object has at least as many tracks."""


def neighbour_links(
    xy_px: Float[np.ndarray, "P T 2"], visible: Bool[np.ndarray, "P T"], every_frames: int
) -> Int[np.ndarray, "E 2"]:
    """Pairs of tracks that are Delaunay neighbours in some frame, without the long links of sparse regions."""
    from scipy.spatial import Delaunay, QhullError

    found = []
    for t in range(0, visible.shape[1], every_frames):
        seen = np.flatnonzero(visible[:, t])
        try:
            triangles = Delaunay(xy_px[seen, t]).simplices
        except (QhullError, ValueError):  # fewer than three points, or all on a line
            continue
        pairs = seen[np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]])]
        length = np.linalg.norm(xy_px[pairs[:, 0], t] - xy_px[pairs[:, 1], t], axis=1)
        found.append(np.sort(pairs[length <= LONGEST_LINK * np.median(length)], axis=1))
    return np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), int)


@dataclass
class Groups:
    """A partition of the tracks that is being coarsened. Group ids are those of the first clusters."""

    test: RigidityTest
    affinity: Float[np.ndarray, "P P"]
    links: Int[np.ndarray, "E 2"]
    label: Int[np.ndarray, " P"]
    own: dict[int, list[tuple[ThreeViewMotion, float] | None]] = field(default_factory=dict)
    """Motions of each group."""
    version: dict[int, int] = field(default_factory=dict)
    """A number that changes whenever the group does."""

    def __post_init__(self) -> None:
        for group in np.unique(self.label):
            self._refit(int(group))

    def _refit(self, group: int) -> None:
        self.own[group] = self.test.motions(self.members(group))
        self.version[group] = max(self.version.values(), default=0) + 1

    @property
    def ids(self) -> list[int]:
        """The largest first."""
        return sorted(self.own, key=lambda group: (-int((self.label == group).sum()), group))

    def members(self, group: int) -> Int[np.ndarray, " n"]:
        return np.flatnonzero(self.label == group)

    def merge(self, kept: int, absorbed: int) -> None:
        self.label[self.label == absorbed] = kept
        del self.own[absorbed]
        self._refit(kept)

    def relabel(self, label: Int[np.ndarray, " P"]) -> None:
        """Take another partition; the motions of groups that changed are fitted again."""
        before, self.label = self.label, label.copy()
        for group in sorted({*self.own, *map(int, np.unique(label))}):
            if not (label == group).any():
                del self.own[group]
            elif not np.array_equal(before == group, label == group):
                self._refit(group)

    def joint_misfit(self, a: int, b: int) -> float:
        """How badly one motion explains both, relative to their own."""
        both = [self.members(a), self.members(b)]
        return misfit(self.test, both, both, [self.own[a], self.own[b]])

    def prediction_misfit(self, model: int, judged: int) -> float:
        """How badly the motion of one group alone explains the other."""
        return misfit(self.test, [self.members(model)], [self.members(judged)], [self.own[judged]])

    def continuity(self) -> dict[tuple[int, int], float]:
        """Affinity across each boundary (upper quartile of its links) over that inside the two groups."""
        first, second = self.label[self.links[:, 0]], self.label[self.links[:, 1]]
        strength = self.affinity[self.links[:, 0], self.links[:, 1]]
        inside = {}
        for g in self.own:
            within = strength[(first == g) & (second == g)]
            inside[g] = float(np.median(within)) if len(within) else 1.0
        crossing = first != second
        low, high = np.minimum(first, second)[crossing], np.maximum(first, second)[crossing]
        strength = strength[crossing]
        found = {}
        for a, b in {(int(a), int(b)) for a, b in zip(low, high, strict=True)}:
            across = strength[(low == a) & (high == b)]
            if len(across) >= MIN_BOUNDARY_LINKS:
                found[a, b] = float(np.quantile(across, 0.75) / np.sqrt(max(inside[a] * inside[b], 1e-6)))
        return found


def merge_continuous(groups: Groups, rules: GroupingRules, at_least: int = 1, settled: frozenset[int] = frozenset()) -> None:
    """Join clusters into which an object's surface was cut: continuous across the boundary, and one rigid motion.

    Clusters that no frame triplet shows together are joined on continuity alone. Groups that are settled stay as they are.
    """
    refused: set[frozenset[int]] = set()
    while len(groups.own) > at_least:
        candidates = [
            (strength, a, b)
            for (a, b), strength in groups.continuity().items()
            if strength > rules.continuity and frozenset((a, b)) not in refused and not settled & {a, b}
        ]
        if not candidates:
            return
        _, a, b = max(candidates)
        misfit_together = groups.joint_misfit(a, b)
        if np.isfinite(misfit_together) and misfit_together > rules.misfit:
            refused.add(frozenset((a, b)))
            continue
        groups.merge(a, b)
        refused = {pair for pair in refused if not pair & {a, b}}


def merge_predicted(
    groups: Groups,
    rules: GroupingRules,
    spans: Callable[[Int[np.ndarray, " n"]], bool],
    at_least: int = 1,
    settled: frozenset[int] = frozenset(),
) -> None:
    """Join what the motion of one of the two predicts, and what spans the whole image and agrees with the largest group.

    spans: whether tracks reach from one side of the image to the other (no mover is expected to).
    settled: groups that are joined neither with each other nor with new ones.
    """
    known: dict[tuple[int, int], float] = {}
    while len(groups.own) > at_least:
        best, kept, absorbed = _best_prediction(groups, known, settled)
        if best > rules.prediction:
            largest, *others = groups.ids
            spread = [
                g
                for g in others
                if g not in settled and spans(groups.members(g)) and groups.joint_misfit(largest, g) <= rules.misfit
            ]
            if not spread:
                return
            kept, absorbed = largest, spread[0]
        groups.merge(kept, absorbed)


def merge_down_to(groups: Groups, n_groups: int) -> None:
    """Join the groups that contradict each other least until so many are left."""
    known: dict[tuple[int, int], float] = {}
    while len(groups.own) > n_groups:
        _, kept, absorbed = _best_prediction(groups, known)
        groups.merge(kept, absorbed)


def _best_prediction(
    groups: Groups, known: dict[tuple[int, int], float], settled: frozenset[int] = frozenset()
) -> tuple[float, int, int]:
    """The pair of which one predicts the other best. known: scores so far, brought up to date."""
    ids = groups.ids
    pairs = [(a, b) for i, a in enumerate(ids) for b in ids[i + 1 :] if not settled & {a, b}]
    for a, b in pairs:
        key = (groups.version[a], groups.version[b])
        if key not in known:
            known[key] = min(groups.prediction_misfit(a, b), groups.prediction_misfit(b, a))
    return min(((known[groups.version[a], groups.version[b]], a, b) for a, b in pairs), default=(np.inf, -1, -1))
