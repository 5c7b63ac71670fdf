"""Rigid motion over three frames, as a test of whether tracks move as one body.

Two frames constrain a point only along one direction, so a mover that travels along the epipolar lines passes for static.
Three frames give three constraints per point, whatever the model:

    affine      centred (x, x', x'') lies in a 3-space of R^6 (factorisation: Tomasi & Kanade, IJCV 1992); small objects
    projective  the trifocal tensor T: [x']x (sum_i x^i T_i) [x'']x = 0 (Hartley & Zisserman, 2nd edition, eq. 15.10)

Symbols
    views   (n, 3, 2) positions of n points in the three frames
    T       (3, 3, 3) T[i, q, r], fitted linearly by weighted least squares after normalisation
Residuals are mean squared distances per constraint, in the units of the points squared (first-order for T, as Sampson's).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

CONSTRAINTS = 3
"""Independent constraints on a point's six coordinates."""
AFFINE_PARAMETERS = 12
PROJECTIVE_PARAMETERS = 18
MIN_POINTS_PROJECTIVE = 16
ITERATIONS = 3
"""Of reweighting."""


@dataclass(frozen=True)
class ThreeViewMotion:
    """One rigid motion: an affine one when `tensor` is None."""

    mean: Float[np.ndarray, "6"]
    basis: Float[np.ndarray, "6 3"]
    tensor: Float[np.ndarray, "3 3 3"] | None
    scale: float
    """Normalised = (views - mean) * scale, for the tensor."""

    def squared_residuals(self, views: Float[np.ndarray, "n 3 2"]) -> Float[np.ndarray, " n"]:
        if self.tensor is None:
            centred = views.reshape(-1, 6) - self.mean
            return ((centred - centred @ self.basis @ self.basis.T) ** 2).sum(1) / CONSTRAINTS
        normalised = (views - self.mean.reshape(3, 2)) * self.scale
        return _tensor_residuals(self.tensor, normalised) / self.scale**2


def fit_affine(
    views: Float[np.ndarray, "n 3 2"], weight: Float[np.ndarray, " n"], noise: float
) -> tuple[ThreeViewMotion, Float[np.ndarray, " n"]]:
    """Robust affine motion and its residuals at the points. noise: standard deviation above which points lose weight."""
    flat, current = views.reshape(-1, 6), weight
    for _ in range(ITERATIONS):
        mean = current @ flat / current.sum()
        centred = flat - mean
        _, vectors = np.linalg.eigh((centred * current[:, None]).T @ centred)
        motion = ThreeViewMotion(mean, vectors[:, 3:], None, 1.0)
        residuals = motion.squared_residuals(views)
        current = weight / (1 + residuals / noise**2)
    return motion, residuals


def fit_projective(
    views: Float[np.ndarray, "n 3 2"], weight: Float[np.ndarray, " n"], noise: float
) -> tuple[ThreeViewMotion, Float[np.ndarray, " n"]]:
    """Robust projective motion and its residuals at the points."""
    mean = weight @ views.reshape(-1, 6) / weight.sum()
    offset = views - mean.reshape(3, 2)
    spread = weight @ np.linalg.norm(offset, axis=2).mean(1) / weight.sum()
    scale = float(np.sqrt(2) / max(spread, 1e-9))
    normalised, current = offset * scale, weight
    rows = _trilinearities(normalised)
    for _ in range(ITERATIONS):
        gram = np.einsum("ner,n,nes->rs", rows, current, rows, optimize=True)
        tensor = _smallest_eigenvector(gram).reshape(3, 3, 3)
        motion = ThreeViewMotion(mean, np.zeros((6, 3)), tensor, scale)
        residuals = motion.squared_residuals(views)
        current = weight / (1 + residuals / noise**2)
    return motion, residuals


def fit_best(
    views: Float[np.ndarray, "n 3 2"], weight: Float[np.ndarray, " n"], noise: float, gain: float
) -> tuple[ThreeViewMotion, float]:
    """The simpler model, unless the projective one lowers the variance by more than the factor `gain`; and the variance.

    The variance is the median-based estimate of the squared residual per constraint, corrected for the parameters.
    """
    affine, residuals = fit_affine(views, weight, noise)
    variance = robust_variance(residuals, AFFINE_PARAMETERS)
    if len(views) < MIN_POINTS_PROJECTIVE:
        return affine, variance
    projective, residuals = fit_projective(views, weight, noise)
    projective_variance = robust_variance(residuals, PROJECTIVE_PARAMETERS)
    better = projective_variance * gain < variance
    return (projective, projective_variance) if better else (affine, variance)


def _smallest_eigenvector(gram: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    """By squaring the inverse, a tenth of the time of a full decomposition at this size."""
    power = np.linalg.inv(gram + 1e-11 * np.trace(gram) * np.eye(len(gram)))
    for _ in range(7):
        power = power @ power
        power /= np.trace(power)
    return power[:, int(np.argmax(np.diag(power)))]


def robust_variance(squared_residuals: Float[np.ndarray, " n"], parameters: int) -> float:
    """From the median, scaled for a chi-square of three degrees of freedom and for the parameters that were fitted."""
    freedom = CONSTRAINTS * len(squared_residuals)
    return float(np.median(squared_residuals)) / 0.789 * freedom / max(freedom - parameters, CONSTRAINTS)


def _lines(x: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2 3"]:
    """The vertical and the horizontal line through each point."""
    lines = np.zeros((len(x), 2, 3))
    lines[:, 0, 0] = lines[:, 1, 1] = 1
    lines[:, :, 2] = -x
    return lines


def _homogeneous(x: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
    return np.concatenate([x, np.ones((len(x), 1))], 1)


def _trilinearities(views: Float[np.ndarray, "n 3 2"]) -> Float[np.ndarray, "n 4 27"]:
    """Coefficients of T in the four point-line-line equations: a line through x' and one through x'' each."""
    first, second, third = _homogeneous(views[:, 0]), _lines(views[:, 1]), _lines(views[:, 2])
    pairs = (second[:, :, None, :, None] * third[:, None, :, None, :]).reshape(-1, 4, 1, 9)
    return (first[:, None, :, None] * pairs).reshape(-1, 4, 27)


def _tensor_residuals(tensor: Float[np.ndarray, "3 3 3"], views: Float[np.ndarray, "n 3 2"]) -> Float[np.ndarray, " n"]:
    """Sampson's approximation e' (J J')^+ e per constraint; the four equations have rank three."""
    second, third = _lines(views[:, 1]), _lines(views[:, 2])
    contracted = np.einsum("ni,iqr->nqr", _homogeneous(views[:, 0]), tensor)
    error = (second @ contracted @ np.swapaxes(third, 1, 2)).reshape(-1, 4)
    jacobian = np.zeros((len(views), 2, 2, 6))
    for i in range(2):
        jacobian[..., i] = second @ tensor[i] @ np.swapaxes(third, 1, 2)
        jacobian[:, i, :, 2 + i] = -np.einsum("nr,ntr->nt", contracted[:, 2], third)
        jacobian[:, :, i, 4 + i] = -np.einsum("nq,nsq->ns", contracted[:, :, 2], second)
    flat = jacobian.reshape(-1, 4, 6)
    values, vectors = np.linalg.eigh(flat @ np.swapaxes(flat, 1, 2))
    along = np.einsum("nk,nkj->nj", error, vectors)[:, 1:] ** 2
    return (along / np.maximum(values[:, 1:], 1e-12)).sum(1) / CONSTRAINTS
