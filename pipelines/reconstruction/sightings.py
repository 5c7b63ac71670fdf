"""The tracks of one object as a dense table, and the two elementary solves on it: where a point is, where a camera is.

Symbols
    xy_px[t, p]     track p in frame t, in px from the principal point; NaN where not seen
    d               viewing direction of a sighting in the camera, z = 1
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.artifacts import Tracks
from pipelines.geometry import invert, rigid
from pipelines.reconstruction.bundle import Observations, Structure, cauchy, exp_rotation

TIED_FRAMES = 2
"""A track ties what is before a moment to what is after it when each side has so many of its sightings."""
TIED_SHARE = 0.2
"""Of the chosen tracks, so many in every frame and across every moment, if there are so many."""


@dataclass(frozen=True)
class Sightings:
    """All sightings of one object's tracks."""

    xy_px: Float[np.ndarray, "T P 2"]

    @cached_property
    def seen(self) -> Bool[np.ndarray, "T P"]:
        seen = np.isfinite(self.xy_px[..., 0])
        # It is computed once, so nobody may change it.
        seen.flags.writeable = False
        return seen

    @property
    def n_frames(self) -> int:
        return self.xy_px.shape[0]

    @property
    def n_tracks(self) -> int:
        return self.xy_px.shape[1]

    @classmethod
    def from_tracks(cls, tracks: Tracks, n_frames: int, principal_px: Float[np.ndarray, "2"]) -> "Sightings":
        table = np.full((n_frames, len(tracks.object_id), 2), np.nan)
        table[tracks.frame, tracks.track] = tracks.xy_px - principal_px
        return cls(table)

    def of_tracks(self, chosen: np.ndarray) -> "Sightings":
        return Sightings(self.xy_px[:, chosen])

    def observations(self, frames: Bool[np.ndarray, " T"], points: Bool[np.ndarray, " P"]) -> Observations:
        """Sightings of the chosen points in the chosen frames."""
        frame, point = np.nonzero(self.seen & frames[:, None] & points)
        return Observations(frame, point, self.xy_px[frame, point])


def triangulate(
    observed: Observations, structure: Structure, n_points: int
) -> tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, " P"]]:
    """Points nearest to their viewing rays (least squares over all rays), and how well depth is determined.

    The second result is the root of the smallest eigenvalue of sum(I - d d^T) / rays: about half of the angle (radians) between
    the rays; zero for points that are not observed.
    """
    obj_from_cam = invert(structure.cam_from_obj)
    d = np.concatenate([observed.xy_px / structure.focal_px, np.ones((len(observed.frame), 1))], -1)
    d = np.einsum("nij,nj->ni", obj_from_cam[observed.frame, :3, :3], d / np.linalg.norm(d, axis=-1, keepdims=True))
    centre = obj_from_cam[observed.frame, :3, 3]
    across = np.eye(3) - d[:, :, None] * d[:, None, :]
    matrix, right = np.zeros((n_points, 3, 3)), np.zeros((n_points, 3))
    np.add.at(matrix, observed.point, across)
    np.add.at(right, observed.point, np.einsum("nij,nj->ni", across, centre))
    count = np.bincount(observed.point, minlength=n_points)
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(matrix)[:, 0], 0) / np.maximum(count, 1))
    solvable = spread > 1e-7
    points = np.zeros((n_points, 3))
    points[solvable] = np.linalg.solve(matrix[solvable], right[solvable, :, None])[..., 0]
    return points, np.where(solvable, spread, 0.0)


def _pose_jacobian(cam_from_obj: np.ndarray, points: np.ndarray, focal_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Derivative (n, 2, 6) of the image points by the left perturbation (w, v) of the pose, and the camera points."""
    q = points @ cam_from_obj[:3, :3].T
    cam = q + cam_from_obj[:3, 3]
    depth = np.maximum(cam[:, 2], 1e-6)
    by_cam = np.zeros((len(q), 2, 3))
    by_cam[:, 0, 0] = by_cam[:, 1, 1] = focal_px / depth
    by_cam[:, :, 2] = -(focal_px / depth**2)[:, None] * cam[:, :2]
    return np.concatenate([np.cross(q[:, None, :], by_cam), by_cam], -1), cam


def refine_pose(
    cam_from_obj: Float[np.ndarray, "4 4"],
    points: Float[np.ndarray, "n 3"],
    xy_px: Float[np.ndarray, "n 2"],
    focal_px: float,
    loss_px: float,
    max_iterations: int = 25,
) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, " n"]]:
    """Camera that sees known points (Levenberg-Marquardt, Cauchy loss), and the reprojection error of each point in px.

    The error of a point behind the camera is infinite.
    """

    def residual(matrix: np.ndarray) -> np.ndarray:
        cam = points @ matrix[:3, :3].T + matrix[:3, 3]
        return focal_px * cam[:, :2] / np.maximum(cam[:, 2:], 1e-6) - xy_px

    error = residual(cam_from_obj)
    cost, damping = cauchy(error, loss_px)[0].sum(), 1e-3
    for _ in range(max_iterations):
        root = np.sqrt(cauchy(error, loss_px)[1])[:, None]
        jacobian = (_pose_jacobian(cam_from_obj, points, focal_px)[0] * root[..., None]).reshape(-1, 6)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ (error * root).reshape(-1)
        step = -np.linalg.lstsq(normal + damping * np.diag(np.diag(normal) + 1e-12), gradient, rcond=None)[0]
        moved = rigid(exp_rotation(step[:3]) @ cam_from_obj[:3, :3], cam_from_obj[:3, 3] + step[3:])
        new_error = residual(moved)
        new_cost = cauchy(new_error, loss_px)[0].sum()
        if not new_cost < cost:
            damping *= 10
            if damping > 1e6:
                break
            continue
        gain, cost, damping = (cost - new_cost) / cost, new_cost, damping / 10
        cam_from_obj, error = moved, new_error
        if gain < 1e-7:
            break
    _, cam = _pose_jacobian(cam_from_obj, points, focal_px)
    return cam_from_obj, np.where(cam[:, 2] <= 0, np.inf, np.linalg.norm(error, axis=-1))


def pose_uncertainty_deg(
    cam_from_obj: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "n 3"], focal_px: float, sigma_px: float
) -> float:
    """Expected rotation error of a pose that rests on these points, each seen with independent noise (px per axis)."""
    jacobian = _pose_jacobian(cam_from_obj, points, focal_px)[0].reshape(-1, 6)
    covariance = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-12, hermitian=True)
    return float(np.degrees(sigma_px * np.sqrt(np.trace(covariance[:3, :3]))))


def spread_tracks(sightings: Sightings, limit: int, seed: int) -> Int[np.ndarray, " n"]:
    """Indices of at most `limit` tracks: the longest ones, but what ties the clip together first.

    A frame is known by the tracks that it shows, and frames before and after a moment are tied by tracks that are seen on both
    sides. Where fewest are taken the longest one is added, until every frame and every moment has its share of those there are.
    """
    seen = sightings.seen
    if sightings.n_tracks <= limit:
        return np.arange(sightings.n_tracks)
    length = seen.sum(0) + np.random.default_rng(seed).random(sightings.n_tracks)
    until = np.cumsum(seen, axis=0)
    ties = (until[:-1] >= TIED_FRAMES) & (until[-1] - until[:-1] >= TIED_FRAMES)
    serves = np.concatenate([seen, ties])
    wanted = np.minimum(serves.sum(1), int(TIED_SHARE * limit))
    longest_first = np.argsort(-length)
    queues = [iter(longest_first[row]) for row in serves[:, longest_first]]
    taken, served = np.zeros(sightings.n_tracks, bool), np.zeros(len(serves), int)
    for _ in range(limit):
        lacking = np.where(served < wanted, served, limit)
        row = int(lacking.argmin())
        if lacking[row] == limit:
            break
        track = next(track for track in queues[row] if not taken[track])
        taken[track] = True
        served += serves[:, track]
    rest = longest_first[~taken[longest_first]]
    taken[rest[: limit - int(taken.sum())]] = True
    return np.flatnonzero(taken)
