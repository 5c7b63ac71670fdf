"""Robust bundle adjustment of one rigid object seen by a pinhole camera: Levenberg-Marquardt on the Schur complement.

Symbols and frames
    R, tau      cam_from_obj of a frame; X a point in the object's frame; q = R X
    w, v        perturbation of a pose: R <- exp(w) R, tau <- tau + v; the camera point moves by w x q + v
    f           focal length in px; image points are relative to the principal point, in px
    A           pose unknowns (6 per frame), followed by the focal length's logarithm when it is free
Source: Triggs et al., "Bundle Adjustment - A Modern Synthesis" (1999), sections 4 and 6.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from pipelines.geometry import rigid
from pipelines.reconstruction.motion_prior import Motion, MotionPrior
from pipelines.reconstruction.normal_equations import (
    NEAREST_DEPTH,
    NormalEquations,
    in_order_of_sight,
    linearised,
    reprojection,
)

MIN_DEPTH = 1e-3
"""Points nearer than this fraction of the median depth, or behind the camera, weigh nothing."""

STIFFNESS = 1e3
"""Of a fixed gauge, as a multiple of the stiffest unknown's."""
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
    safe = np.where(np.abs(depth) < NEAREST_DEPTH, NEAREST_DEPTH, depth)
    return structure.focal_px * cam[:, :2] / safe[:, None] - observed.xy_px, depth


def cauchy(residual_px: Float[np.ndarray, "N 2"], loss_px: float) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Cauchy cost per observation (px²) and its weight in iteratively reweighted least squares."""
    squared_px2 = np.sum(residual_px**2, -1)
    return _cauchy_cost(squared_px2, loss_px), 1.0 / (1.0 + squared_px2 / loss_px**2)


def _cauchy_cost(squared_px2: Float[np.ndarray, " N"], loss_px: float) -> Float[np.ndarray, " N"]:
    return 0.5 * loss_px**2 * np.log1p(squared_px2 / loss_px**2)


class _Problem:
    """The sorted observations, the start, and what is minimised."""

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
        ids, point = np.unique(observed.point, return_inverse=True)
        self.sighted, former = in_order_of_sight(frame, point, observed.xy_px)
        self.point_ids = ids[former]
        self.loss_px, self.free_focal, self.still, self.prior = loss_px, free_focal, still, prior
        self.n_pose = 6 * len(self.frames)
        unknowns = np.arange(self.n_pose + int(free_focal))
        self.free = unknowns[(unknowns % 6 < 3) | (unknowns == self.n_pose)] if still else unknowns
        poses = structure.cam_from_obj[self.frames]
        self.centre = np.median(structure.points[self.point_ids], axis=0)
        self.start = (
            poses[:, :3, :3].copy(),
            poses[:, :3, 3].copy(),
            structure.points[self.point_ids].copy(),
            structure.focal_px,
        )

    def cost(self, state: tuple) -> float:
        depth, squared_px2 = reprojection(self.sighted, *state)
        rho = _cauchy_cost(squared_px2, self.loss_px)
        cost = float(np.where(depth > self._min_depth(depth), rho, self._behind()).sum())
        return cost + (self.prior.cost(self._motion(state)) if self.prior else 0.0)

    def _motion(self, state: tuple) -> Motion:
        return Motion(self.frames, state[0], state[1], self.centre)

    @staticmethod
    def _min_depth(depth: Float[np.ndarray, " N"]) -> float:
        return MIN_DEPTH * max(float(np.median(depth)), 1e-6)

    def _behind(self) -> float:
        """Cost of a point behind the camera: that of an error of a hundred times the loss's width."""
        return 0.5 * self.loss_px**2 * np.log1p(1e4)

    def gauge(self, state: tuple) -> Float[np.ndarray, "A 7"]:
        """Steps of the poses that a gauge is fixed by leaving out: those of the frame that sees most, and growth as a whole.

        With a prior the gauge matters: the point whose path is smooth must stay where it is on the object. Seen from the camera
        of that frame, everything grows by steps along tau_t + R_t c, where c is this camera's centre.
        """
        rotation, tau, _, _ = state
        best = int(np.bincount(self.sighted.frame).argmax())
        c = -rotation[best].T @ tau[best]
        fixed = np.zeros((self.n_pose + int(self.free_focal), 7))
        fixed[6 * best + np.arange(6), np.arange(6)] = 1
        growth = np.zeros((len(rotation), 6))
        growth[:, 3:] = tau + rotation @ c
        fixed[: self.n_pose, 6] = growth.ravel() / max(float(np.linalg.norm(growth)), 1e-12)
        return fixed

    def linearise(self, state: tuple) -> NormalEquations:
        """Those of the sightings and of the prior, which leaves the gauge free."""
        min_depth = self._min_depth(reprojection(self.sighted, *state)[0])
        equations = linearised(self.sighted, *state, loss_px=self.loss_px, min_depth=min_depth, free_focal=self.free_focal)
        if self.prior:
            matrix, gradient = self.prior.linearise(self._motion(state))
            equations.U[: self.n_pose, : self.n_pose] += matrix
            equations.gradient[: self.n_pose] += gradient
        return equations

    def moved(self, state: tuple, step: np.ndarray, step_points: np.ndarray) -> tuple:
        rotation, tau, points, focal_px = state
        pose_step = step[: self.n_pose].reshape(-1, 6)
        focal_px = focal_px * float(np.exp(np.clip(step[-1], -0.3, 0.3))) if self.free_focal else focal_px
        return exp_rotation(pose_step[:, :3]) @ rotation, tau + pose_step[:, 3:], points + step_points, focal_px


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
        equations = problem.linearise(state)
        if prior is not None:
            fixed = problem.gauge(state)
            equations.U[:] += STIFFNESS * float(np.diag(equations.U).max()) * fixed @ fixed.T
        decreased = False
        for _ in range(8):
            proposed, proposed_cost = state, np.inf
            try:
                proposed = problem.moved(state, *equations.eliminated(damping).step(problem.free))
                proposed_cost = problem.cost(proposed)
            except np.linalg.LinAlgError:
                # Rounding: more damping makes it positive definite.
                pass
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
    reduced = problem.linearise(state).eliminated(1e-9, poses_too=False).S
    matrix, free = np.zeros_like(reduced), np.ix_(problem.free, problem.free)
    matrix[free] = reduced[free]
    return Adjusted(final, reproject(final, observed)[0], cost, NormalMatrix(problem.frames, matrix))
