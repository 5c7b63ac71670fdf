"""How likely two tracks belong to one rigid motion: ordered residual kernels, summed over frame gaps and motion models.

Source: Xu, Cheong, Li, "3D Rigid Motion Segmentation with Mixed and Unknown Number of Models" (TPAMI 2019,
arXiv 1804.02142), section 3: every gap and model gets random hypotheses; each track prefers the share of them with the
smallest residuals; two tracks are alike as far as they prefer the same ones. No inlier threshold is needed.

Our additions: samples are drawn from neighbourhoods of several sizes, so that small objects get pure ones, and sums are
divided by how many gaps two tracks have in common, so that tracks need not span the clip.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.segmentation.two_view import SAMPLE_SIZE, MotionModel, fit, squared_residuals

NEIGHBOURHOODS = (0.04, 0.1, 0.25, 1.0)
"""Shares of the tracks, the nearest to a random one, from which a sample is drawn."""
MIN_TRACKS = 12
"""A gap with fewer common tracks says nothing."""


def frame_gaps(n_frames: int, strides: Sequence[int], max_per_stride: int) -> list[tuple[int, int]]:
    """Pairs (t, t + stride), evenly spread over the clip, at most `max_per_stride` of each stride."""
    gaps: list[tuple[int, int]] = []
    for stride in strides:
        n = n_frames - stride
        if n > 0:
            starts = np.unique(np.linspace(0, n - 1, min(n, max_per_stride)).round().astype(int))
            gaps += [(int(t), int(t) + stride) for t in starts]
    return gaps


def motion_affinity(
    xy: Float[np.ndarray, "P T 2"],
    visible: Bool[np.ndarray, "P T"],
    gaps: Sequence[tuple[int, int]],
    *,
    hypotheses: int,
    preferred: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "P P"]:
    """Affinities in 0 ... 1, zero between tracks that no gap shows together.

    xy: positions, centred and divided by the image's width; hypotheses: per gap and model; preferred: share of the
    hypotheses that a track prefers.
    """
    n_tracks = len(xy)
    shared = np.zeros((n_tracks, n_tracks), np.float32)
    common = np.zeros((n_tracks, n_tracks), np.float32)
    for t, u in gaps:
        both = np.flatnonzero(visible[:, t] & visible[:, u])
        if len(both) < MIN_TRACKS:
            continue
        x, y = xy[both, t], xy[both, u]
        prefers = np.concatenate([_preferences(model, x, y, hypotheses, preferred, rng) for model in MotionModel], 1)
        block = np.ix_(both, both)
        shared[block] += prefers @ prefers.T / prefers[0].sum()
        common[block] += 1
    return shared / np.maximum(common, 1)


def _preferences(
    model: MotionModel,
    x: Float[np.ndarray, "n 2"],
    y: Float[np.ndarray, "n 2"],
    hypotheses: int,
    preferred: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n m"]:
    """1 where a track is among those that a hypothesis suits best, seen from the track; else 0."""
    samples = _local_samples(x, hypotheses, SAMPLE_SIZE[model], rng)
    residuals = squared_residuals(model, fit(model, x[samples], y[samples]), x, y).T
    n_preferred = max(1, round(preferred * hypotheses))
    best = np.argpartition(residuals, n_preferred, axis=1)[:, :n_preferred]
    prefers = np.zeros(residuals.shape, np.float32)
    np.put_along_axis(prefers, best, 1, axis=1)
    return prefers


def _local_samples(x: Float[np.ndarray, "n 2"], m: int, size: int, rng: np.random.Generator) -> Int[np.ndarray, "m size"]:
    """m random samples: a random point and others out of its nearest neighbours."""
    n = len(x)
    seeds = rng.integers(n, size=m)
    order = np.argsort(((x[seeds][:, None] - x) ** 2).sum(-1), axis=1)
    pool = np.maximum(np.round(rng.choice(NEIGHBOURHOODS, size=m) * n), min(n, size + 2))
    keys = np.where(np.arange(n) < pool[:, None], rng.random((m, n)), 2.0)
    keys[:, 0] = -1
    return np.take_along_axis(order, np.argpartition(keys, size - 1, axis=1)[:, :size], axis=1)
