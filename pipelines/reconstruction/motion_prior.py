"""What frames know of each other: an object that is hardly seen in a frame still moves on as it did before and after.

Tracks alone leave a frame with few points a pose that may be many degrees off at hardly any cost. The motion prior makes
accelerations cost: turning and moving at a constant rate is free.

Symbols
    C_t             cam_from_background rotation of frame t: in the background's axes a shaking hand is no jerk of the object
    Q_t = C_t^T R_t rotation of the object in the background's axes; its rate is log(Q_{t+1} Q_t^T) / dt
    x, c_t          median of the object's points, and C_t^T (R_t x + tau_t) over its median depth: free of the object's unit
    turn, shift     accelerations: differences of consecutive rates of Q and of c over dt, per frame squared
The derivative of log(exp(a) S exp(-b)) by a is the inverse left Jacobian of SO(3) at log(S), that by b is minus its transpose.
Source: Sola, Deray & Atchuthan, "A micro Lie theory for state estimation in robotics" (2018), appendix B.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

MAX_GAP_FRAMES = 4
"""Over longer gaps nothing is assumed."""
ROBUST_WIDTH = 3.0
"""Accelerations beyond this many deviations count less and less: things collide, and hands let go."""


@dataclass(frozen=True)
class Motion:
    """Poses of some frames, and the point whose path is meant."""

    frames: Int[np.ndarray, " F"]
    rotation: Float[np.ndarray, "F 3 3"]
    tau: Float[np.ndarray, "F 3"]
    centre: Float[np.ndarray, "3"]
    """x, in the object's frame."""


@dataclass(frozen=True)
class MotionPrior:
    """Cost of accelerations, in the unit of the reprojection cost (px²)."""

    world_from_cam: Float[np.ndarray, "T 3 3"]
    """C_t^T of all frames of the clip; identities where the camera isn't known."""
    turn_deviation: float
    """Of the turn's accelerations, radians per frame squared, each axis."""
    shift_deviation: float
    """Of the shift's accelerations, depths per frame squared, each axis."""
    weight: float
    """Variance (px²) of one independent reprojection error: what an acceleration of one deviation weighs as much as."""

    def accelerations(self, motion: Motion) -> Float[np.ndarray, "n 2 3"]:
        """Turn and shift accelerations over their deviations, of every three consecutive frames near each other."""
        rows, share, mean_dt = _triples(motion.frames)
        if not len(rows):
            return np.zeros((0, 2, 3))
        to_world = self.world_from_cam[motion.frames]
        rate = _turns(to_world @ motion.rotation) / np.diff(motion.frames)[:, None]
        turn = (rate[rows[:, 1]] - rate[rows[:, 0]]) / mean_dt[:, None]
        cam = motion.rotation @ motion.centre + motion.tau
        place = np.einsum("tij,tj->ti", to_world, cam) / _depth(cam)
        shift = np.einsum("nk,nki->ni", share, place[rows])
        return np.stack([turn / self.turn_deviation, shift / self.shift_deviation], 1)

    def jacobian(self, motion: Motion) -> tuple[Float[np.ndarray, "n 6 18"], Int[np.ndarray, "n 18"]]:
        """Derivatives of the accelerations by the left perturbations (w, v) of their three poses, and whose they are.

        Columns count the unknowns of all frames, six each.
        """
        rows, share, mean_dt = _triples(motion.frames)
        to_world = self.world_from_cam[motion.frames]
        q = motion.rotation @ motion.centre
        depth = _depth(q + motion.tau)
        jacobian = np.zeros((len(rows), 2, 3, 3, 6))
        # Shift: the camera point of the centre moves by w x q + v.
        moved = np.concatenate([-to_world @ _cross(q), to_world], -1) / (depth * self.shift_deviation)
        jacobian[:, 1] = np.moveaxis(share[:, :, None, None] * moved[rows], 1, 2)
        # Turn: the rate before the middle frame counts negative, the one after it positive.
        ahead = _inverse_left_jacobian(_turns(to_world @ motion.rotation)) if len(rows) else np.zeros((0, 3, 3))
        ahead = ahead / np.diff(motion.frames)[:, None, None] / self.turn_deviation
        for place, sign in ((0, -1.0), (1, 1.0)):
            of_rate = sign * ahead[rows[:, place]] / mean_dt[:, None, None]
            jacobian[:, 0, :, place, :3] -= np.swapaxes(of_rate, 1, 2) @ to_world[rows[:, place]]
            jacobian[:, 0, :, place + 1, :3] += of_rate @ to_world[rows[:, place + 1]]
        column = 6 * rows[:, :, None] + np.arange(6)
        return jacobian.reshape(len(rows), 6, 18), column.reshape(len(rows), 18)

    def cost(self, motion: Motion) -> float:
        """Cauchy cost of all accelerations (px²)."""
        squared = np.sum(self.accelerations(motion) ** 2, -1)
        return float(0.5 * self.weight * ROBUST_WIDTH**2 * np.log1p(squared / ROBUST_WIDTH**2).sum())

    def linearise(self, motion: Motion) -> tuple[Float[np.ndarray, "A A"], Float[np.ndarray, " A"]]:
        """Gauss-Newton matrix and gradient by the left perturbations (w, v) of the poses."""
        relative = self.accelerations(motion)
        root = np.repeat(np.sqrt(self.weight * robust_weight(relative)), 3, axis=1)
        jacobian, column = self.jacobian(motion)
        jacobian = jacobian * root[..., None]
        size = 6 * len(motion.frames)
        matrix, gradient = np.zeros((size, size)), np.zeros(size)
        np.add.at(matrix, (column[:, :, None], column[:, None, :]), np.swapaxes(jacobian, 1, 2) @ jacobian)
        np.add.at(gradient, column, np.einsum("nij,ni->nj", jacobian, relative.reshape(-1, 6) * root))
        return matrix, gradient


def robust_weight(relative: Float[np.ndarray, "n 2 3"]) -> Float[np.ndarray, "n 2"]:
    """Weights of the Cauchy cost in iteratively reweighted least squares."""
    return 1 / (1 + np.sum(relative**2, -1) / ROBUST_WIDTH**2)


def _triples(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of three consecutive frames near each other, their coefficients in a second difference, and its mean dt."""
    near = np.diff(frames) <= MAX_GAP_FRAMES
    rows = np.flatnonzero(near[:-1] & near[1:])[:, None] + np.arange(3)
    dt = np.diff(frames[rows], axis=1).astype(float)
    mean_dt = dt.mean(1)
    share = np.stack([1 / dt[:, 0], -1 / dt[:, 0] - 1 / dt[:, 1], 1 / dt[:, 1]], -1) / mean_dt[:, None]
    return rows, share, mean_dt


def _turns(rotation: np.ndarray) -> np.ndarray:
    """Rotation vectors from each frame to the next."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(rotation[1:] @ np.swapaxes(rotation[:-1], 1, 2)).as_rotvec())


def _inverse_left_jacobian(turn: np.ndarray) -> np.ndarray:
    angle = np.maximum(np.linalg.norm(turn, axis=-1), 1e-6)[:, None, None]
    cross = _cross(turn)
    return np.eye(3) - 0.5 * cross + (1 / angle**2 - 1 / (2 * angle * np.tan(angle / 2))) * cross @ cross


def _cross(vector: np.ndarray) -> np.ndarray:
    """Matrices (n, 3, 3) of the cross product from the left."""
    cross = np.zeros((len(vector), 3, 3))
    cross[:, 2, 1], cross[:, 0, 2], cross[:, 1, 0] = vector[:, 0], vector[:, 1], vector[:, 2]
    return cross - np.swapaxes(cross, 1, 2)


def _depth(cam: np.ndarray) -> float:
    return max(abs(float(np.median(cam[:, 2]))), 1e-9)
