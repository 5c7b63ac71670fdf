"""Every track to the group whose rigid motion explains it, and new groups from tracks that no motion explains.

Energy: sum over tracks of a robust log-likelihood under the group's three-view motions, plus a penalty for neighbouring tracks
in different groups, weighted by their affinity; lowered by iterated conditional modes.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from pipelines.segmentation.grouping import GroupingRules, Groups

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CAP = 6.0
"""Residuals beyond so many standard deviations cost no more."""
OUTLIER = 4.5
"""A track whose best group leaves a mean residual above so many standard deviations belongs to none."""
SMOOTHNESS = 4.0
SWEEPS = 6
SAME_BODY = 0.35
"""Affinity from which neighbouring outliers belong together."""


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


def residuals(groups: Groups) -> Float[np.ndarray, "P G"]:
    """Mean residual of every track under every group (in the order of `ids`), in standard deviations of the group."""
    return np.stack([groups.test.normalised_residuals(groups.own[g], CAP)[0] for g in groups.ids], 1)


def spawn(groups: Groups, rules: GroupingRules) -> int:
    """Make groups of connected tracks that no group's motion explains; how many were made."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    tested = np.stack([groups.test.normalised_residuals(groups.own[g], CAP)[1] for g in groups.ids], 1).any(1)
    outlier = (residuals(groups).min(1) > OUTLIER) & tested
    a, b = groups.links[outlier[groups.links].all(1)].T
    close = groups.affinity[a, b] > SAME_BODY
    n = len(groups.label)
    graph = coo_matrix((np.ones(close.sum()), (a[close], b[close])), (n, n))
    component = connected_components(graph, directed=False)[1]
    sizes = np.bincount(component[outlier], minlength=component.max() + 1)
    label = groups.label.copy()
    fresh = int(label.max()) + 1
    large = np.flatnonzero(sizes >= rules.min_tracks)
    for offset, chosen in enumerate(large):
        label[(component == chosen) & outlier] = fresh + offset
    groups.relabel(label)
    return len(large)


def _cost(groups: Groups, group: int) -> Float[np.ndarray, "P"]:
    mean, _ = groups.test.normalised_residuals(groups.own[group], CAP)
    return mean**2


def _neighbour_weights(groups: Groups) -> "csr_matrix":
    """Sparse, rows sum to 1: how much each neighbour's group counts."""
    from scipy.sparse import coo_matrix, diags

    a, b = groups.links.T
    n = len(groups.label)
    strength = groups.affinity[a, b].astype(float)
    graph = coo_matrix((strength, (a, b)), (n, n)).tocsr()
    graph = graph + graph.T
    return diags(1 / np.maximum(np.asarray(graph.sum(1)).ravel(), 1e-9)) @ graph
