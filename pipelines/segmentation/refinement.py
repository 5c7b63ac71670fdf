"""Every track to the group whose rigid motion explains it, and new groups from tracks that no motion explains.

Energy: sum over tracks of a robust log-likelihood under the group's three-view motions, plus a penalty for neighbouring tracks
in different groups, weighted by their affinity; lowered by iterated conditional modes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.segmentation.grouping import Groups
from pipelines.segmentation.rigidity import RigidityTest, frame_triplets
from pipelines.segmentation.three_view import ThreeViewMotion

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CAP = 6.0
"""Residuals beyond so many standard deviations cost no more."""
SMOOTHNESS = 4.0
SWEEPS = 6
SAME_BODY = 0.35
"""Affinity from which neighbouring outliers belong together."""
SPAWN_STRIDES = (2, 3, 5)
"""Short enough for tracks that live for a few frames only."""
SPAWN_TRIPLETS = 40
SPAWN_NOISE = 0.6
"""Means over many triplets show less than the noise of one."""
SPAWN_OUTLIER = 2.0
"""A track whose best group leaves a mean residual above so many standard deviations may belong to none."""
SPAWN_CAP, SPAWN_CAP_PX = 6.0, 3.0
SPAWN_GAIN = 4.0
"""How many times smaller the residuals of a new group must be under its own motion."""
SPAWN_TRACKS = 24
"""Fewer tracks are fitted well by chance."""
GROUP_PRICE = SPAWN_TRACKS * (SPAWN_OUTLIER**2 - (SPAWN_OUTLIER / SPAWN_GAIN) ** 2)
"""Of every group, in units of the energy: what the least group that is made anew must gain."""


def energy(groups: Groups) -> float:
    """What `reassign` lowers, and a price for every group: partitions from different starts can be compared by it."""
    ids = groups.ids
    cost = np.stack([_cost(groups, g) for g in ids], 1)
    label = np.array([ids.index(int(g)) for g in groups.label])
    votes = _neighbour_weights(groups) @ np.eye(len(ids))[label]
    own = np.arange(len(label)), label
    return float(cost[own].sum() + SMOOTHNESS * (1 - votes[own]).sum() + GROUP_PRICE * len(ids))


def reassign(groups: Groups) -> None:
    """Move tracks to better groups, and refit the motions."""
    ids = groups.ids
    cost = np.stack([_cost(groups, g) for g in ids], 1)
    weights = _neighbour_weights(groups)
    label = np.array([ids.index(int(g)) for g in groups.label])
    for _ in range(SWEEPS):
        votes = weights @ np.eye(len(ids))[label]
        better = np.argmin(cost - SMOOTHNESS * votes, axis=1)
        if np.array_equal(better, label):
            break
        label = better
    groups.relabel(np.array(ids)[label])


@dataclass(frozen=True)
class Stray:
    """Neighbouring tracks that fit no group's motion."""

    members: Int[np.ndarray, " n"]
    gain: float
    """How many times smaller their residuals are under one motion of their own."""


def strays(
    test: RigidityTest, groups: Sequence[Int[np.ndarray, " _"]], links: Int[np.ndarray, "E 2"], close: Bool[np.ndarray, " E"]
) -> list[Stray]:
    """Connected tracks that no group's motion explains.

    links: neighbouring tracks; close: which of them may be on one body.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    test = replace(
        test,
        triplets=frame_triplets(test.visible.shape[1], SPAWN_STRIDES, SPAWN_TRIPLETS),
        noise_px=test.noise_px * SPAWN_NOISE,
    )
    motions = [test.motions(members) for members in groups]
    relative, tested = zip(*(test.normalised_residuals(m, SPAWN_CAP) for m in motions), strict=True)
    best_px = np.min([_residual_px(test, m) for m in motions], axis=0)
    outlier = (np.min(relative, axis=0) > SPAWN_OUTLIER) & np.any(tested, axis=0)
    n = len(best_px)
    a, b = links.T
    linked = coo_matrix((np.ones(len(a)), (a, b)), (n, n)).tocsr()
    linked = linked + linked.T
    outlier &= linked @ outlier >= 0.5 * np.asarray(linked.sum(1)).ravel()
    joined = outlier[a] & outlier[b] & close
    component = connected_components(coo_matrix((np.ones(joined.sum()), (a[joined], b[joined])), (n, n)), directed=False)[1]
    sizes = np.bincount(component[outlier], minlength=component.max() + 1)
    found = []
    for chosen in np.flatnonzero(sizes >= SPAWN_TRACKS):
        members = np.flatnonzero((component == chosen) & outlier)
        own_px = _residual_px(test, test.motions(members))[members]
        found.append(Stray(members, float(np.median(best_px[members]) / max(float(np.median(own_px)), 1e-9))))
    return found


def spawn(groups: Groups) -> int:
    """Make groups of connected tracks that no group's motion explains, and that one motion of their own explains much better.

    Returns how many were made. What flow smears along occluding edges agrees with no motion, not even with one of its own.
    """
    a, b = groups.links.T
    close = groups.affinity[a, b] > SAME_BODY
    found = strays(groups.test, [groups.members(g) for g in groups.ids], groups.links, close)
    label = groups.label.copy()
    fresh = [stray.members for stray in found if stray.gain >= SPAWN_GAIN]
    for number, members in enumerate(fresh, start=int(label.max()) + 1):
        label[members] = number
    groups.relabel(label)
    return len(fresh)


def _residual_px(test: RigidityTest, motions: list[tuple[ThreeViewMotion, float] | None]) -> Float[np.ndarray, " P"]:
    """Mean residual of every track in px; `SPAWN_CAP_PX` without a common triplet."""
    return test.normalised_residuals([None if m is None else (m[0], 1.0) for m in motions], SPAWN_CAP_PX)[0]


def _cost(groups: Groups, group: int) -> Float[np.ndarray, " P"]:
    """Twice the negative log-likelihood per measurement, up to a constant.

    Without its normalising part, the logarithm of the variance, a group of mixed or poor tracks would take whatever is in
    reach: its motion is wrong, but next to its own tracks everything looks good.
    """
    mean, _ = groups.test.normalised_residuals(groups.own[group], CAP)
    return mean**2 + groups.test.mean_log_variance(groups.own[group])


def _neighbour_weights(groups: Groups) -> "csr_matrix":
    """Sparse, rows sum to 1: how much each neighbour's group counts."""
    from scipy.sparse import coo_matrix, diags

    a, b = groups.links.T
    n = len(groups.label)
    strength = groups.affinity[a, b].astype(float)
    graph = coo_matrix((strength, (a, b)), (n, n)).tocsr()
    graph = graph + graph.T
    return diags(1 / np.maximum(np.asarray(graph.sum(1)).ravel(), 1e-9)) @ graph
