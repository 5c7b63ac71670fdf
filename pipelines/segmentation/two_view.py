"""Motion models between two frames, fitted in batches: affine, homography, fundamental matrix.

Symbols
    x, y    (n, 2) points of the first and the second frame, in centred and scaled coordinates (see `centred`)
    A       affine (2, 3): y = A [x; 1];  H homography (3, 3): y ~ H [x; 1];  F fundamental (3, 3): [y; 1]' F [x; 1] = 0
    m       number of models, fitted and evaluated together

Residuals are squared distances in the units of the points: transfer error in the second frame for A and H,
Sampson distance (Hartley & Zisserman, 2nd edition, eq. 11.9) for F.
Fits take weights, and any number of points from `SAMPLE_SIZE` on. Degenerate samples give useless but finite models.
"""

from enum import StrEnum
from typing import assert_never

import numpy as np
from jaxtyping import Float

TINY = 1e-12


class MotionModel(StrEnum):
    AFFINE = "affine"
    HOMOGRAPHY = "homography"
    FUNDAMENTAL = "fundamental"


SAMPLE_SIZE = {MotionModel.AFFINE: 3, MotionModel.HOMOGRAPHY: 4, MotionModel.FUNDAMENTAL: 8}


def fit(
    model: MotionModel,
    x: Float[np.ndarray, "m n 2"],
    y: Float[np.ndarray, "m n 2"],
    weight: Float[np.ndarray, "m n"] | None = None,
) -> Float[np.ndarray, "m 3 3"]:
    """Least-squares models through m sets of n weighted correspondences, as 3 x 3 matrices (an affine's last row is 0 0 1)."""
    weight = np.ones(x.shape[:2], x.dtype) if weight is None else weight
    match model:
        case MotionModel.AFFINE:
            return _fit_affine(x, y, weight)
        case MotionModel.HOMOGRAPHY:
            return _fit_homography(x, y, weight)
        case MotionModel.FUNDAMENTAL:
            return _fit_fundamental(x, y, weight)
        case _:
            assert_never(model)


def squared_residuals(
    model: MotionModel, matrices: Float[np.ndarray, "m 3 3"], x: Float[np.ndarray, "n 2"], y: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "m n"]:
    """Squared residual of every correspondence under every model."""
    first, second = _homogeneous(x), _homogeneous(y)
    mapped = matrices @ first.T
    if model is not MotionModel.FUNDAMENTAL:
        depth = np.where(np.abs(mapped[:, 2]) < TINY, TINY, mapped[:, 2])
        return (mapped[:, 0] / depth - y[:, 0]) ** 2 + (mapped[:, 1] / depth - y[:, 1]) ** 2
    back = np.swapaxes(matrices, 1, 2) @ second.T
    algebraic = np.einsum("mdn,nd->mn", mapped, second)
    gradient = mapped[:, 0] ** 2 + mapped[:, 1] ** 2 + back[:, 0] ** 2 + back[:, 1] ** 2
    return algebraic**2 / np.maximum(gradient, TINY)


def _homogeneous(x: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 3"]:
    return np.concatenate([x, np.ones((*x.shape[:-1], 1), x.dtype)], -1)


def _normaliser(x: Float[np.ndarray, "m n 2"], weight: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m 3 3"]:
    """Hartley's similarities: weighted mean to the origin, mean distance to sqrt 2."""
    total = np.maximum(weight.sum(1), TINY)
    mean = (weight[..., None] * x).sum(1) / total[:, None]
    spread = (weight * np.linalg.norm(x - mean[:, None], axis=-1)).sum(1) / total
    scale = np.sqrt(2) / np.maximum(spread, 1e-9)
    normaliser = np.zeros((len(x), 3, 3), x.dtype)
    normaliser[:, 0, 0] = normaliser[:, 1, 1] = scale
    normaliser[:, :2, 2] = -scale[:, None] * mean
    normaliser[:, 2, 2] = 1
    return normaliser


def _apply(similarity: Float[np.ndarray, "m 3 3"], x: Float[np.ndarray, "m n 2"]) -> Float[np.ndarray, "m n 2"]:
    return x * similarity[:, None, :1, 0] + similarity[:, None, :2, 2]


def _smallest(rows: Float[np.ndarray, "m r 9"]) -> Float[np.ndarray, "m 3 3"]:
    """Unit vectors that minimise |rows v|, as matrices."""
    _, vectors = np.linalg.eigh(np.swapaxes(rows, 1, 2) @ rows)
    return vectors[..., 0].reshape(-1, 3, 3)


def _fit_affine(
    x: Float[np.ndarray, "m n 2"], y: Float[np.ndarray, "m n 2"], weight: Float[np.ndarray, "m n"]
) -> Float[np.ndarray, "m 3 3"]:
    similarity = _normaliser(x, weight)
    design = _homogeneous(_apply(similarity, x))
    weighted = np.swapaxes(design * weight[..., None], 1, 2)
    gram = weighted @ design + 1e-9 * np.eye(3, dtype=x.dtype)
    affine = np.zeros((len(x), 3, 3), x.dtype)
    affine[:, :2] = np.swapaxes(np.linalg.solve(gram, weighted @ y), 1, 2)
    affine[:, 2, 2] = 1
    return affine @ similarity


def _fit_homography(
    x: Float[np.ndarray, "m n 2"], y: Float[np.ndarray, "m n 2"], weight: Float[np.ndarray, "m n"]
) -> Float[np.ndarray, "m 3 3"]:
    from_first, from_second = _normaliser(x, weight), _normaliser(y, weight)
    p, q = _homogeneous(_apply(from_first, x)), _apply(from_second, y)
    root = np.sqrt(weight)[..., None]
    zero = np.zeros_like(p)
    first = np.concatenate([p, zero, -q[..., :1] * p], -1) * root
    second = np.concatenate([zero, p, -q[..., 1:] * p], -1) * root
    return np.linalg.solve(from_second, _smallest(np.concatenate([first, second], 1)) @ from_first)


def _fit_fundamental(
    x: Float[np.ndarray, "m n 2"], y: Float[np.ndarray, "m n 2"], weight: Float[np.ndarray, "m n"]
) -> Float[np.ndarray, "m 3 3"]:
    """The normalised eight-point algorithm, rank 2 enforced."""
    from_first, from_second = _normaliser(x, weight), _normaliser(y, weight)
    p, q = _homogeneous(_apply(from_first, x)), _homogeneous(_apply(from_second, y))
    rows = (q[..., :, None] * p[..., None, :]).reshape(*p.shape[:2], 9) * np.sqrt(weight)[..., None]
    left, singular, right = np.linalg.svd(_smallest(rows))
    singular[:, 2] = 0
    rank_two = (left * singular[:, None]) @ right
    return np.swapaxes(from_second, 1, 2) @ rank_two @ from_first
