"""The true set of valid scale combinations, and how well a learned set agrees with it (DESIGN section 2).

Symbols
    R, K, H         rays, objects including the background (0), scale combinations
    depth_alone     (R, K) depth of each object alone along a ray, in true units; 0 or +inf = not hit
    labels          (R,) object that is seen
    x               (H, K) log scales relative to the true ones: the truth is x = 0, and x[:, 0] = 0

A combination is valid where at least 99.5 % of the rays that hit two or more objects show the right one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer

from pipelines.artifacts import UNKNOWN
from pipelines.errors import InputError
from pipelines.ground_truth import GroundTruth

VALID_AGREEMENT = 0.995
LOG_SCALE_RANGE = (-0.6, 0.4)
"""Combinations are drawn uniformly in log scale from this range per object, relative to the true scale."""
_CELLS_PER_CHUNK = 4_000_000
"""Entries of combinations times rays that are compared at once: what fits the cache well enough."""


@dataclass(frozen=True)
class TellingRays:
    """Rays that hit two or more objects, and which one is seen. Depth +inf: not hit."""

    depth_alone: Float32[np.ndarray, "R K"]
    labels: Integer[np.ndarray, " R"]


@dataclass(frozen=True)
class SetScore:
    """A learned set against the true one, on the same combinations. NaN where a share of nothing is asked for."""

    precision: float
    recall: float
    iou: float
    true_share: float
    """Share of the combinations that is truly valid."""
    learned_share: float


def telling_rays(truth: GroundTruth, max_rays: int | None = None, seed: int = 0) -> TellingRays:
    """All such rays of the filmed frames, or a random part of them.

    Raises InputError where the truth has no depth of each object alone, or no labels.
    """
    if truth.depth_alone is None or truth.segm_train is None:
        raise InputError(f"{truth.folder} has no depth of each object alone: the true valid set is not known for it")
    t, y, x = np.nonzero(((truth.depth_alone > 0) & np.isfinite(truth.depth_alone)).sum(1) >= 2)
    known = truth.segm_train[t, y, x] != UNKNOWN
    t, y, x = t[known], y[known], x[known]
    if max_rays is not None and len(t) > max_rays:
        chosen = np.sort(np.random.default_rng(seed).choice(len(t), max_rays, replace=False))
        t, y, x = t[chosen], y[chosen], x[chosen]
    depth = truth.depth_alone[t, :, y, x].astype(np.float32)
    return TellingRays(np.where(depth > 0, depth, np.float32(np.inf)), truth.segm_train[t, y, x].astype(np.int64))


def true_agreement(
    depth_alone: Float[np.ndarray, "R K"], labels: Integer[np.ndarray, " R"], scales: Float[np.ndarray, "H K"]
) -> Float[np.ndarray, " H"]:
    """Share of the rays on which the object that is seen is the nearest under each combination; 1 where there are no rays.

    Rays that hit fewer than two objects are left out. scales: relative to the true ones, the background's being 1.
    Most rays show the same under all of the given combinations, most others depend on one pair of objects; only the rest are
    compared one by one.
    """
    hit = (depth_alone > 0) & np.isfinite(depth_alone)
    telling = hit.sum(1) >= 2
    depth = np.where(hit[telling], depth_alone[telling], np.inf).astype(np.float32)
    right = labels[telling].astype(np.int64)
    if len(depth) == 0:
        return np.ones(len(scales))
    agreed = np.zeros(len(scales))
    factor = scales.astype(np.float32)
    if len(factor) == 0:
        return agreed
    for k in np.unique(right):
        rays = depth[right == k]
        never, undecided = _decided(rays, int(k), factor)
        n_undecided = undecided.sum(1)
        agreed += np.sum(~never & (n_undecided == 0))
        for j in np.flatnonzero(undecided.any(0)):
            alone = ~never & (n_undecided == 1) & undecided[:, j]
            bounds = np.sort(rays[alone, j].astype(float) / rays[alone, k])
            agreed += len(bounds) - np.searchsorted(bounds, scales[:, k] / scales[:, j], side="right")
        several = rays[~never & (n_undecided > 1)]
        size = max(1, _CELLS_PER_CHUNK // max(len(several), 1))
        for start in range(0, len(factor), size):
            part = slice(start, start + size)
            agreed[part] += _shown(several, int(k), factor[part])
    return agreed / len(depth)


def _decided(
    depth: Float32[np.ndarray, "rays K"], k: int, scales: Float32[np.ndarray, "h K"]
) -> tuple[Bool[np.ndarray, " rays"], Bool[np.ndarray, "rays K"]]:
    """Rays that show object k under no combination, and the objects that are in front of it under some only."""
    never, undecided = ~np.isfinite(depth[:, k]), np.zeros(depth.shape, bool)
    own = np.where(never, 0, depth[:, k])
    for j in range(depth.shape[1]):
        if j != k:
            ratio = scales[:, k] / scales[:, j]
            # A hair wider than the ratios are, so that rounding can't decide what the comparison would not.
            behind = own * (ratio.max() * np.float32(1.00001)) < depth[:, j]
            in_front = own * (ratio.min() * np.float32(0.99999)) > depth[:, j]
            never |= in_front
            undecided[:, j] = ~behind & ~in_front
    return never, undecided


def _shown(depth: Float32[np.ndarray, "rays K"], k: int, scales: Float32[np.ndarray, "h K"]) -> Integer[np.ndarray, " h"]:
    """On how many rays object k is the nearest."""
    own = depth[:, k] * scales[:, k, None]
    nearest = np.isfinite(own)
    for j in range(depth.shape[1]):
        hit = np.isfinite(depth[:, j])
        if j != k and hit.any():
            nearest[:, hit] &= own[:, hit] < depth[hit, j] * scales[:, j, None]
    return nearest.sum(1)


def is_valid(agreement: Float[np.ndarray, " H"], threshold: float = VALID_AGREEMENT) -> Bool[np.ndarray, " H"]:
    """Whether combinations of this agreement count as valid."""
    return agreement >= threshold


def draw_log_scales(
    n: int, n_objects: int, generator: np.random.Generator, limits: tuple[float, float] = LOG_SCALE_RANGE
) -> Float[np.ndarray, "n K"]:
    """Combinations relative to the true scales, uniform in log scale; the background's is 0."""
    drawn = generator.uniform(*limits, (n, n_objects))
    drawn[:, 0] = 0
    return drawn


def score_set(learned: Bool[np.ndarray, " H"], true: Bool[np.ndarray, " H"]) -> SetScore:
    """Precision, recall and intersection over union of two sets of combinations."""
    both, either = int((learned & true).sum()), int((learned | true).sum())
    n_learned, n_true = int(learned.sum()), int(true.sum())
    return SetScore(
        precision=both / n_learned if n_learned else float("nan"),
        recall=both / n_true if n_true else float("nan"),
        iou=both / either if either else float("nan"),
        true_share=float(true.mean()),
        learned_share=float(learned.mean()),
    )


def score_memberships(
    members: Mapping[str, Callable[[Float[np.ndarray, "H K"]], Bool[np.ndarray, " H"]]],
    rays: TellingRays,
    true_log_scale: Float[np.ndarray, " K"],
    *,
    n: int,
    generator: np.random.Generator,
    threshold: float = VALID_AGREEMENT,
) -> dict[str, SetScore]:
    """How well membership functions (the zone's, the network's) match the true valid set, on the same combinations.

    members: log scales in the scene's own units -> whether they are in the learned set.
    true_log_scale: log scales, in the scene's units, at which every object has its true size. `rays` has the same columns.
    """
    drawn = draw_log_scales(n, len(true_log_scale), generator)
    true = is_valid(true_agreement(rays.depth_alone, rays.labels, np.exp(drawn)), threshold)
    return {name: score_set(member(drawn + true_log_scale), true) for name, member in members.items()}
