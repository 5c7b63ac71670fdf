"""Robust bundle adjustment of one rigid object seen by a pinhole camera: Levenberg-Marquardt on the Schur complement.

Symbols and frames
    R, tau      cam_from_obj of a frame; X a point in the object's frame; q = R X
    w, v        left perturbation of a pose: R <- exp(w) R, tau <- exp(w) tau' with the camera point moving by w x q + v
    f           focal length in px; image points are relative to the principal point, in px
    A           pose unknowns (6 per frame), followed by the focal length's logarithm when it is free
    U, V, W     blocks of the Gauss-Newton matrix: A x A, per point 3 x 3, and A x point 3
One object has few points and frames, so A x A and W are dense; a point's three unknowns are eliminated in closed form.
Source: Triggs et al., "Bundle Adjustment - A Modern Synthesis" (1999), sections 4 and 6.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from pipelines.geometry import rigid
from pipelines.reconstruction.motion_prior import Motion, MotionPrior

MIN_DEPTH = 1e-3
"""Points nearer than this fraction of the median depth, or behind the camera, weigh nothing."""

STIFFNESS = 1e3
"""Of a fixed gauge, as a multiple of the stiffest unknown's."""
BAND_POINTS = 64
"""Points, seen at about the same time, that are eliminated together: only the frames that see them take part ..."""
WIDE_BAND = 0.25
"""... where that is less than this share of the work with all frames: blocks have to be copied."""
GAUGE_FREEDOMS = 7
"""Nothing tells an object's own frame (6) and unit (1)."""


@dataclass(frozen=True)
class Observations:
    """Where points were seen: point `point[n]` in frame `frame[n]` at `xy_px[n]` from the principal point."""

    frame: Int[np.ndarray, " N"]
    point: Int[np.ndarray, " N"]
    xy_px: Float[np.ndarray, "N 2"]

    def where(self, kept: np.ndarray) -> "Observations":
        return Observations(self.frame[kept], self.point[kept], self.xy_px[kept])


@dataclass(frozen=True)
class Structure:
    """Motion and shape of one object."""

    cam_from_obj: Float[np.ndarray, "T 4 4"]
    points: Float[np.ndarray, "P 3"]
    focal_px: float


@dataclass(frozen=True)
class NormalMatrix:
    """Gauss-Newton matrix at a solution, points eliminated, in units of one over squared px (residual variance not applied)."""

    frames: Int[np.ndarray, " F"]
    """Frames whose six unknowns (w, v) the matrix holds, in order; the focal length's logarithm follows when free."""
    matrix: Float[np.ndarray, "A A"]


@dataclass(frozen=True)
class Adjusted:
    """Result of a bundle adjustment."""

    structure: Structure
    residual_px: Float[np.ndarray, "N 2"]
    cost: float
    normal: NormalMatrix


def noise_px(adjusted: Adjusted) -> float:
    """Robust deviation of the reprojection errors, per coordinate."""
    return 1.4826 * float(np.median(np.abs(adjusted.residual_px)))


def exp_rotation(w: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """Rodrigues' formula, exact at zero."""
    angle = np.linalg.norm(w, axis=-1)[..., None, None]
    cross = np.zeros((*w.shape, 3))
    cross[..., 0, 1], cross[..., 0, 2], cross[..., 1, 2] = -w[..., 2], w[..., 1], -w[..., 0]
    cross -= np.swapaxes(cross, -1, -2)
    # sinc in NumPy is sin(pi x) / (pi x)
    return np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * (cross @ cross)


def reproject(structure: Structure, observed: Observations) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, " N"]]:
    """Residual (predicted minus observed, px) and depth of every observation."""
    poses = structure.cam_from_obj[observed.frame]
    cam = np.einsum("nij,nj->ni", poses[:, :3, :3], structure.points[observed.point]) + poses[:, :3, 3]
    depth = cam[:, 2]
    safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    return structure.focal_px * cam[:, :2] / safe[:, None] - observed.xy_px, depth


def cauchy(residual_px: Float[np.ndarray, "N 2"], loss_px: float) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Cauchy cost per observation (px²) and its weight in iteratively reweighted least squares."""
    squared = np.sum(residual_px**2, -1) / loss_px**2
    return 0.5 * loss_px**2 * np.log1p(squared), 1.0 / (1.0 + squared)


class _Problem:
    """The sorted observations and index tables that every iteration shares."""

    def __init__(
        self,
        structure: Structure,
        observed: Observations,
        loss_px: float,
        free_focal: bool,
        still: bool,
        prior: MotionPrior | None = None,
    ):
        self.frames, frame = np.unique(observed.frame, return_inverse=True)
        self.point_ids, point = np.unique(observed.point, return_inverse=True)
        self.order = np.lexsort((point, frame))
        self.frame, self.point = frame[self.order], point[self.order]
        self.xy_px = observed.xy_px[self.order]
        self.by_point = np.argsort(self.point, kind="stable")
        self.frame_starts = np.flatnonzero(np.diff(self.frame, prepend=-1))
        self.point_starts = np.flatnonzero(np.diff(self.point[self.by_point], prepend=-1))
        self.loss_px, self.free_focal, self.still, self.prior = loss_px, free_focal, still, prior
        self.n_pose, self.n_extra = 6 * len(self.frames), int(free_focal)
        self.bands = self._bands()
        poses = structure.cam_from_obj[self.frames]
        self.centre = np.median(structure.points[self.point_ids], axis=0)
        self.start = (
            poses[:, :3, :3].copy(),
            poses[:, :3, 3].copy(),
            structure.points[self.point_ids].copy(),
            structure.focal_px,
        )

    def _bands(self) -> list[tuple[slice, np.ndarray]]:
        """Pose unknowns and points in blocks that hold all of W but zeros; none where tracks are long."""
        first = np.full(len(self.point_ids), len(self.frames))
        last = np.zeros(len(self.point_ids), int)
        np.minimum.at(first, self.point, self.frame)
        np.maximum.at(last, self.point, self.frame)
        order = np.lexsort((last, first))
        chunks = [order[start : start + BAND_POINTS] for start in range(0, len(order), BAND_POINTS)]
        bands = [(slice(6 * int(first[c].min()), 6 * (int(last[c].max()) + 1)), c) for c in chunks]
        work = sum((rows.stop - rows.start) ** 2 * len(points) for rows, points in bands)
        return bands if work < WIDE_BAND * self.n_pose**2 * len(order) else []

    def residuals(self, state: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Residuals (N, 2), rotated points q (N, 3) and camera points (N, 3)."""
        rotation, tau, points, focal_px = state
        q = np.einsum("nij,nj->ni", rotation[self.frame], points[self.point])
        cam = q + tau[self.frame]
        safe = np.where(np.abs(cam[:, 2:]) < 1e-9, 1e-9, cam[:, 2:])
        return focal_px * cam[:, :2] / safe - self.xy_px, q, cam

    def cost(self, state: tuple) -> float:
        residual, _, cam = self.residuals(state)
        rho, _ = cauchy(residual, self.loss_px)
        cost = float(np.where(self._in_front(cam), rho, self._behind()).sum())
        return cost + (self.prior.cost(self._motion(state)) if self.prior else 0.0)

    def _motion(self, state: tuple) -> Motion:
        return Motion(self.frames, state[0], state[1], self.centre)

    def gauge(self, state: tuple) -> Float[np.ndarray, "A 7"]:
        """Steps of the poses that a gauge is fixed by leaving out: those of the frame that sees most, and growth as a whole.

        With a prior the gauge matters: the point whose path is smooth must stay where it is on the object. Seen from the camera
        of that frame, everything grows by steps along tau_t + R_t c, where c is this camera's centre.
        """
        rotation, tau, _, _ = state
        best = int(np.bincount(self.frame).argmax())
        c = -rotation[best].T @ tau[best]
        fixed = np.zeros((self.n_pose + self.n_extra, 7))
        fixed[6 * best + np.arange(6), np.arange(6)] = 1
        growth = np.zeros((len(rotation), 6))
        growth[:, 3:] = tau + rotation @ c
        fixed[: self.n_pose, 6] = growth.ravel() / max(float(np.linalg.norm(growth)), 1e-12)
        return fixed

    def _in_front(self, cam: np.ndarray) -> np.ndarray:
        return cam[:, 2] > MIN_DEPTH * max(float(np.median(cam[:, 2])), 1e-6)

    def _behind(self) -> float:
        """Cost of a point behind the camera: that of an error of a hundred times the loss's width."""
        return 0.5 * self.loss_px**2 * np.log1p(1e4)

    def linearise(self, state: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """U (A, A), W (A, P, 3), V (P, 3, 3), and the gradients by A and by points."""
        rotation, _, points, focal_px = state
        residual, q, cam = self.residuals(state)
        _, weight = cauchy(residual, self.loss_px)
        root = np.sqrt(weight * self._in_front(cam))
        depth = np.where(np.abs(cam[:, 2]) < 1e-9, 1e-9, cam[:, 2])
        gain = root * focal_px / depth
        by_cam = np.zeros((len(gain), 2, 3))
        by_cam[:, 0, 0] = by_cam[:, 1, 1] = gain
        by_cam[:, :, 2] = -gain[:, None] * cam[:, :2] / depth[:, None]
        by_pose = np.empty((len(gain), 2, 6))
        by_pose[..., :3] = np.cross(q[:, None, :], by_cam)
        by_pose[..., 3:] = 0.0 if self.still else by_cam
        by_point = by_cam @ rotation[self.frame]
        residual = residual * root[:, None]

        n_frames, n_points = len(rotation), len(points)
        U = np.zeros((self.n_pose + self.n_extra,) * 2)
        g = np.zeros(self.n_pose + self.n_extra)
        W = np.zeros((self.n_pose + self.n_extra, n_points, 3))
        blocks = np.add.reduceat(np.swapaxes(by_pose, 1, 2) @ by_pose, self.frame_starts)
        rows = np.arange(self.n_pose).reshape(n_frames, 6)
        U[rows[:, :, None], rows[:, None, :]] = blocks
        g[: self.n_pose] = np.add.reduceat(np.einsum("nij,ni->nj", by_pose, residual), self.frame_starts).reshape(-1)
        W[: self.n_pose].reshape(n_frames, 6, n_points, 3)[self.frame, :, self.point] = np.swapaxes(by_pose, 1, 2) @ by_point
        V = np.add.reduceat((np.swapaxes(by_point, 1, 2) @ by_point)[self.by_point], self.point_starts)
        g_point = np.add.reduceat(np.einsum("nij,ni->nj", by_point, residual)[self.by_point], self.point_starts)
        if self.prior:
            matrix, gradient = self.prior.linearise(self._motion(state))
            U[: self.n_pose, : self.n_pose] += matrix
            g[: self.n_pose] += gradient
        if self.free_focal:
            by_focal = root[:, None] * focal_px * cam[:, :2] / depth[:, None]
            U[-1, -1] = np.sum(by_focal**2)
            g[-1] = np.sum(by_focal * residual)
            border = np.add.reduceat(np.einsum("nij,ni->nj", by_pose, by_focal), self.frame_starts).reshape(-1)
            U[-1, : self.n_pose] = U[: self.n_pose, -1] = border
            W[-1] = np.add.reduceat(np.einsum("nij,ni->nj", by_point, by_focal)[self.by_point], self.point_starts)
        return U, W, V, g, g_point

    def moved(self, state: tuple, step: np.ndarray, step_points: np.ndarray) -> tuple:
        rotation, tau, points, focal_px = state
        pose_step = step[: self.n_pose].reshape(-1, 6)
        focal_px = focal_px * float(np.exp(np.clip(step[-1], -0.3, 0.3))) if self.free_focal else focal_px
        tau = tau if self.still else tau + pose_step[:, 3:]
        return exp_rotation(pose_step[:, :3]) @ rotation, tau, points + step_points, focal_px


def _eliminate(
    U: np.ndarray, W: np.ndarray, V: np.ndarray, bands: list[tuple[slice, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Schur complement S = U - W V^-1 W^T, with V^-1 and W V^-1. bands: `_Problem.bands`."""
    V_inverse = np.linalg.inv(V)
    if not bands:
        WV = np.einsum("apj,pjk->apk", W, V_inverse, optimize=True)
        return U - WV.reshape(len(U), -1) @ W.reshape(len(U), -1).T, V_inverse, WV
    S, WV = U.copy(), np.zeros_like(W)
    n_pose = max(rows.stop for rows, _ in bands)
    for rows, points in bands:
        w, inverse = W[rows, points], V_inverse[points]
        wv = np.einsum("apj,pjk->apk", w, inverse, optimize=True)
        WV[rows, points] = wv
        S[rows, rows] -= wv.reshape(len(w), -1) @ w.reshape(len(w), -1).T
        if len(U) > n_pose:
            # The focal length's row is full.
            focal = W[n_pose, points]
            WV[n_pose, points] = np.einsum("pj,pjk->pk", focal, inverse)
            S[rows, n_pose] -= wv.reshape(len(w), -1) @ focal.reshape(-1)
            S[n_pose, rows] -= w.reshape(len(w), -1) @ WV[n_pose, points].reshape(-1)
            S[n_pose, n_pose] -= np.sum(WV[n_pose, points] * focal)
    return S, V_inverse, WV


def _damp(blocks: np.ndarray, damping: float) -> np.ndarray:
    """Blocks (..., n, n) with their diagonal enlarged by the factor 1 + damping, and never quite zero."""
    damped = blocks.copy()
    index = np.arange(blocks.shape[-1])
    diagonal = blocks[..., index, index]
    floor = 1e-9 * max(float(diagonal.max(initial=0.0)), 1e-12)
    damped[..., index, index] = diagonal * (1.0 + damping) + floor
    return damped


def adjust(
    structure: Structure,
    observed: Observations,
    *,
    loss_px: float,
    max_iterations: int = 40,
    tolerance: float = 1e-6,
    free_focal: bool = False,
    still: bool = False,
    prior: MotionPrior | None = None,
) -> Adjusted:
    """Minimise the Cauchy reprojection cost over the poses and points that are observed (and the focal length if free).

    Frames and points without observations keep their values. still: rotations only, translations fixed.
    prior: what accelerations cost beside it.
    loss_px: width of the Cauchy loss. tolerance: relative decrease of the cost at which to stop.
    """
    problem = _Problem(structure, observed, loss_px, free_focal, still, prior)
    state, cost, damping = problem.start, problem.cost(problem.start), 1e-4
    for _ in range(max_iterations):
        U, W, V, g, g_point = problem.linearise(state)
        if prior is not None:
            fixed = problem.gauge(state)
            U = U + STIFFNESS * float(np.diag(U).max()) * fixed @ fixed.T
        decreased = False
        for _ in range(8):
            S, V_inverse, WV = _eliminate(_damp(U, damping), W, _damp(V, damping), problem.bands)
            step = (
                np.linalg.lstsq(S, -g + np.einsum("apj,pj->a", WV, g_point), rcond=None)[0]
                if still
                else np.linalg.solve(S, -g + np.einsum("apj,pj->a", WV, g_point))
            )
            step_points = np.einsum("pij,pj->pi", V_inverse, -g_point - np.einsum("apj,a->pj", W, step))
            proposed = problem.moved(state, step, step_points)
            proposed_cost = problem.cost(proposed)
            if np.isfinite(proposed_cost) and proposed_cost < cost:
                decreased = True
                break
            damping = max(damping, 1e-6) * 8
        if not decreased:
            break
        gain, state, cost, damping = (cost - proposed_cost) / cost, proposed, proposed_cost, damping / 5
        if gain < tolerance:
            break
    return _result(problem, state, cost, structure, observed)


def _result(problem: _Problem, state: tuple, cost: float, structure: Structure, observed: Observations) -> Adjusted:
    rotation, tau, points, focal_px = state
    poses, all_points = structure.cam_from_obj.copy(), structure.points.copy()
    poses[problem.frames] = rigid(rotation, tau)
    all_points[problem.point_ids] = points
    final = replace(structure, cam_from_obj=poses, points=all_points, focal_px=focal_px)
    U, W, V, _, _ = problem.linearise(state)
    matrix, _, _ = _eliminate(U, W, _damp(V, 1e-9), problem.bands)
    return Adjusted(final, reproject(final, observed)[0], cost, NormalMatrix(problem.frames, matrix))
