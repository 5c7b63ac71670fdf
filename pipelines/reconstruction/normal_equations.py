"""Normal equations of bundle adjustment, and their solution with the points eliminated.

Symbols
    n           sightings, sorted by point, then by frame; points are sorted by the frames that see them
    A           pose unknowns (6 per frame: w, v), followed by the focal length's logarithm
    U, V, W     blocks of the Gauss-Newton matrix: A x A; 3 x 3 of each point; 6 x 3 of each sighting: its frame's pose and its
                point
    L           V = L L^T of a point, so that W V^-1 W^T = Y Y^T with Y = W L^-T
W is never a matrix: a sighting's block is all that its frame and its point have in common. Points seen at about the same time
are eliminated together, by one product of the rows of the frames that see them.
Source: Triggs et al., "Bundle Adjustment - A Modern Synthesis" (1999), section 6.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pipelines.compiled import compiled

POINTS_AT_ONCE = 128
NEAREST_DEPTH = 1e-9
"""Nothing is divided by a smaller depth."""


@dataclass(frozen=True)
class Sighted:
    """Which point was seen in which frame, and where, in the order that the module's head tells."""

    frame: Int[np.ndarray, " N"]
    point: Int[np.ndarray, " N"]
    xy_px: Float[np.ndarray, "N 2"]
    n_frames: int
    n_points: int


def in_order_of_sight(
    frame: Int[np.ndarray, " N"], point: Int[np.ndarray, " N"], xy_px: Float[np.ndarray, "N 2"]
) -> tuple[Sighted, Int[np.ndarray, " P"]]:
    """The sightings in order, their points numbered anew, and the former number of each point.

    frame, point: numbers from 0 on, each of which occurs.
    """
    n_frames, n_points = int(frame.max()) + 1, int(point.max()) + 1
    first, last = np.full(n_points, n_frames), np.zeros(n_points, np.int64)
    np.minimum.at(first, point, frame)
    np.maximum.at(last, point, frame)
    former = np.lexsort((last, first))
    rank = np.empty(n_points, np.int64)
    rank[former] = np.arange(n_points)
    order = np.lexsort((frame, rank[point]))
    return Sighted(frame[order], rank[point[order]], np.ascontiguousarray(xy_px[order]), n_frames, n_points), former


def reprojection(
    sighted: Sighted,
    rotation: Float[np.ndarray, "F 3 3"],
    tau: Float[np.ndarray, "F 3"],
    points: Float[np.ndarray, "P 3"],
    focal_px: float,
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Depth and squared error (px²) of every sighting."""
    depth, squared = np.empty(len(sighted.frame)), np.empty(len(sighted.frame))
    _reproject(sighted.frame, sighted.point, sighted.xy_px, rotation, tau, points, focal_px, depth, squared)
    return depth, squared


@dataclass(frozen=True)
class NormalEquations:
    """Gauss-Newton matrix and gradients at a state."""

    sighted: Sighted
    U: Float[np.ndarray, "A A"]
    V: Float[np.ndarray, "P 3 3"]
    W: Float[np.ndarray, "N 6 3"]
    W_focal: Float[np.ndarray, "P 3"] | None
    """The focal length's row of W; None where it is fixed."""
    gradient: Float[np.ndarray, " A"]
    point_gradient: Float[np.ndarray, "P 3"]

    def eliminated(self, damping: float, poses_too: bool = True) -> "Eliminated":
        """Without the points, with the diagonals of V (and of U) enlarged by the factor 1 + damping.

        Raises LinAlgError when V is not positive definite.
        """
        half = np.ascontiguousarray(np.swapaxes(np.linalg.inv(np.linalg.cholesky(damped(self.V, damping))), 1, 2))
        S = damped(self.U, damping) if poses_too else self.U.copy()
        seen, n_pose = self.sighted, 6 * self.sighted.n_frames
        for low in range(0, seen.n_points, POINTS_AT_ONCE):
            high = min(low + POINTS_AT_ONCE, seen.n_points)
            start, stop = np.searchsorted(seen.point, (low, high))
            if start == stop:
                continue
            first, end = int(seen.frame[start:stop].min()), int(seen.frame[start:stop].max()) + 1
            Y = np.zeros((6 * (end - first), 3 * (high - low)))
            _fill_rows(self.W, half, seen.frame, seen.point, start, stop, first, low, Y)
            S[6 * first : 6 * end, 6 * first : 6 * end] -= Y @ Y.T
        if self.W_focal is not None:
            Y_focal = np.einsum("pi,pij->pj", self.W_focal, half)
            border = np.zeros((seen.n_frames, 6))
            _add_by_frame(self.W, seen.frame, seen.point, np.einsum("pij,pj->pi", half, Y_focal), border)
            S[n_pose, :n_pose] -= border.ravel()
            S[:n_pose, n_pose] -= border.ravel()
            S[n_pose, n_pose] -= np.sum(Y_focal**2)
        return Eliminated(self, S, half)


@dataclass(frozen=True)
class Eliminated:
    """The poses' own equations, and what brings the points back."""

    equations: NormalEquations
    S: Float[np.ndarray, "A A"]
    half: Float[np.ndarray, "P 3 3"]
    """L^-T."""

    def step(self, free: Int[np.ndarray, " F"]) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, "P 3"]]:
        """Solution for the poses' unknowns that are free (the others stay) and for the points.

        Raises LinAlgError when S is not positive definite.
        """
        from scipy.linalg import cho_factor, cho_solve

        eq, seen = self.equations, self.equations.sighted
        n_pose = 6 * seen.n_frames

        def by_point(right: np.ndarray) -> np.ndarray:
            """V^-1 times (P, 3)."""
            return np.einsum("pij,pj->pi", self.half, np.einsum("pji,pj->pi", self.half, right))

        inner = by_point(eq.point_gradient)
        from_points = np.zeros((seen.n_frames, 6))
        _add_by_frame(eq.W, seen.frame, seen.point, inner, from_points)
        right = -eq.gradient
        right[:n_pose] += from_points.ravel()
        if eq.W_focal is not None:
            right[n_pose] += np.sum(eq.W_focal * inner)
        step = np.zeros_like(right)
        matrix = self.S if len(free) == len(right) else self.S[np.ix_(free, free)]
        step[free] = cho_solve(cho_factor(matrix.T, lower=True, check_finite=False), right[free], check_finite=False)
        from_poses = np.zeros_like(eq.point_gradient)
        _add_by_point(eq.W, seen.frame, seen.point, step[:n_pose].reshape(-1, 6), from_poses)
        if eq.W_focal is not None:
            from_poses += step[n_pose] * eq.W_focal
        return step, by_point(-eq.point_gradient - from_poses)


def damped(blocks: Float[np.ndarray, "*n k k"], damping: float) -> Float[np.ndarray, "*n k k"]:
    """Copies with their diagonals enlarged by the factor 1 + damping, and never quite zero."""
    enlarged = blocks.copy()
    index = np.arange(blocks.shape[-1])
    diagonal = blocks[..., index, index]
    floor = 1e-9 * max(float(diagonal.max(initial=0.0)), 1e-12)
    enlarged[..., index, index] = diagonal * (1.0 + damping) + floor
    return enlarged


def linearised(
    sighted: Sighted,
    rotation: Float[np.ndarray, "F 3 3"],
    tau: Float[np.ndarray, "F 3"],
    points: Float[np.ndarray, "P 3"],
    focal_px: float,
    *,
    loss_px: float,
    min_depth: float,
    free_focal: bool,
) -> NormalEquations:
    """Reprojection errors with the Cauchy loss, as iteratively reweighted least squares.

    rotation, tau: cam_from_obj. min_depth: sightings of nearer points weigh nothing.
    """
    n_frames, n_points, n_pose = sighted.n_frames, sighted.n_points, 6 * sighted.n_frames
    U, g = np.zeros((n_frames, 6, 6)), np.zeros((n_frames, 6))
    V, g_point = np.zeros((n_points, 3, 3)), np.zeros((n_points, 3))
    W = np.zeros((len(sighted.frame), 6, 3))
    border, W_focal, own = np.zeros((n_frames, 6)), np.zeros((n_points, 3)), np.zeros(2)
    _accumulate(
        *(sighted.frame, sighted.point, sighted.xy_px, rotation, tau, points, focal_px, loss_px, min_depth),
        *(U, g, V, g_point, W, border, W_focal, own),
    )
    matrix = np.zeros((n_pose + int(free_focal),) * 2)
    gradient = np.zeros(len(matrix))
    rows = np.arange(n_pose).reshape(n_frames, 6)
    matrix[rows[:, :, None], rows[:, None, :]] = U
    gradient[:n_pose] = g.ravel()
    if free_focal:
        matrix[n_pose, :n_pose] = matrix[:n_pose, n_pose] = border.ravel()
        matrix[n_pose, n_pose], gradient[n_pose] = own
    return NormalEquations(sighted, matrix, V, W, W_focal if free_focal else None, gradient, g_point)


@compiled
def _reproject(frame, point, xy_px, rotation, tau, points, focal_px, depth, squared):
    for n in range(len(frame)):
        t, p = frame[n], point[n]
        R, X = rotation[t], points[p]
        x = R[0, 0] * X[0] + R[0, 1] * X[1] + R[0, 2] * X[2] + tau[t, 0]
        y = R[1, 0] * X[0] + R[1, 1] * X[1] + R[1, 2] * X[2] + tau[t, 1]
        z = R[2, 0] * X[0] + R[2, 1] * X[1] + R[2, 2] * X[2] + tau[t, 2]
        depth[n] = z
        if abs(z) < NEAREST_DEPTH:
            z = NEAREST_DEPTH
        dx, dy = focal_px * x / z - xy_px[n, 0], focal_px * y / z - xy_px[n, 1]
        squared[n] = dx * dx + dy * dy


@compiled
def _accumulate(
    frame, point, xy_px, rotation, tau, points, focal_px, loss_px, min_depth, U, g, V, g_point, W, border, W_focal, own
):
    """One pass over the sightings; everything from U on is added to. own: the focal length's diagonal and gradient."""
    by_pose, by_point, q, residual, flat = np.empty((2, 6)), np.empty((2, 3)), np.empty(3), np.empty(2), np.empty(2)
    for n in range(len(frame)):
        t, p = frame[n], point[n]
        R = rotation[t]
        for i in range(3):
            q[i] = R[i, 0] * points[p, 0] + R[i, 1] * points[p, 1] + R[i, 2] * points[p, 2]
        depth = q[2] + tau[t, 2]
        if not depth > min_depth:
            continue
        depth = max(depth, NEAREST_DEPTH)
        for i in range(2):
            flat[i] = (q[i] + tau[t, i]) / depth
            residual[i] = focal_px * flat[i] - xy_px[n, i]
        weight = 1.0 / (1.0 + (residual[0] * residual[0] + residual[1] * residual[1]) / (loss_px * loss_px))
        gain = focal_px / depth
        for i in range(2):
            # Derivative by the camera point: gain (e_i - flat_i e_z); that by w is its moment about the object's origin.
            across, along = gain, -gain * flat[i]
            by_pose[i, 3], by_pose[i, 4], by_pose[i, 5] = 0.0, 0.0, along
            by_pose[i, 3 + i] = across
            by_pose[i, 0] = q[1] * along - q[2] * by_pose[i, 4]
            by_pose[i, 1] = q[2] * by_pose[i, 3] - q[0] * along
            by_pose[i, 2] = q[0] * by_pose[i, 4] - q[1] * by_pose[i, 3]
            for j in range(3):
                by_point[i, j] = across * R[i, j] + along * R[2, j]
        for i in range(2):
            weighted, by_focal = weight * residual[i], focal_px * flat[i]
            own[0] += weight * by_focal * by_focal
            own[1] += by_focal * weighted
            for a in range(6):
                share = weight * by_pose[i, a]
                g[t, a] += by_pose[i, a] * weighted
                border[t, a] += share * by_focal
                for b in range(6):
                    U[t, a, b] += share * by_pose[i, b]
                for b in range(3):
                    W[n, a, b] += share * by_point[i, b]
            for a in range(3):
                share = weight * by_point[i, a]
                g_point[p, a] += by_point[i, a] * weighted
                W_focal[p, a] += share * by_focal
                for b in range(3):
                    V[p, a, b] += share * by_point[i, b]


@compiled
def _fill_rows(W, half, frame, point, start, stop, first_frame, first_point, Y):
    """Y = W L^-T of the sightings from start to stop, with six rows per frame and three columns per point."""
    for n in range(start, stop):
        p = point[n]
        row, column = 6 * (frame[n] - first_frame), 3 * (p - first_point)
        for a in range(6):
            for b in range(3):
                Y[row + a, column + b] = W[n, a, 0] * half[p, 0, b] + W[n, a, 1] * half[p, 1, b] + W[n, a, 2] * half[p, 2, b]


@compiled
def _add_by_frame(W, frame, point, of_points, to_frames):
    """Add W times (P, 3) to (F, 6)."""
    for n in range(len(frame)):
        t, p = frame[n], point[n]
        for a in range(6):
            to_frames[t, a] += W[n, a, 0] * of_points[p, 0] + W[n, a, 1] * of_points[p, 1] + W[n, a, 2] * of_points[p, 2]


@compiled
def _add_by_point(W, frame, point, of_frames, to_points):
    """Add W^T times (F, 6) to (P, 3)."""
    for n in range(len(frame)):
        t, p = frame[n], point[n]
        for a in range(6):
            for b in range(3):
                to_points[p, b] += W[n, a, b] * of_frames[t, a]
