"""The similarity between two motions of one object, judged where the filming camera judges: in the image.

In closed form (`poses.pose_error`) rotations and translations are aligned apart, and an error along the view counts as much as
one across it, although an image shows the latter ten times as well: on a crate that is seen from 3.9 units, motions that agree
to 0.05 px came out 0.7 % too large and with that 2 % of the crate's size too near. The similarity under which both motions
show the object's points in the same directions has no such flaw.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from pipelines.geometry import invert, pixel_centres, ray_directions, transform
from pipelines.ground_truth import GroundTruth

PER_FRAME = 64
"""Pixels of each frame that speak for an object."""
LEAST_SIGHTINGS = 32
"""Fewer leave the closed form as it is."""
OUTLIER = 3.0
"""Directions that differ by more medians than this count less and less: a motion may be wrong in a few frames."""
ROUNDS = 5
"""Of fitting: what is usual is measured anew before each."""
LEAST_ANGLE = 1e-6
"""What the median is at least, in radians: perfect motions have none."""


@dataclass(frozen=True)
class Sightings:
    """Points of an object's true surface where a frame shows them."""

    points: Float[np.ndarray, "N 3"]
    """In the object's true frame."""
    frames: Int[np.ndarray, " N"]


def true_sightings(
    truth: GroundTruth, label: int, cam_from_obj: Float[np.ndarray, "frames 4 4"], registered: Bool[np.ndarray, " frames"]
) -> Sightings | None:
    """Pixels of a true label, spread over the registered frames; None where the truth lacks depth or labels, or shows little.

    cam_from_obj: the label's true motion.
    """
    if truth.depth_train is None or truth.segm_train is None:
        return None
    random = np.random.default_rng(0)
    dirs = ray_directions(truth.intrinsics, pixel_centres(truth.width, truth.height))
    obj_from_cam = invert(cam_from_obj)
    points, frames = [], []
    for t in np.flatnonzero(registered).tolist():
        row, column = np.nonzero((truth.segm_train[t] == label) & (truth.depth_train[t] > 0))
        chosen = random.permutation(len(row))[:PER_FRAME]
        at = row[chosen], column[chosen]
        points.append(transform(obj_from_cam[t], dirs[at] * truth.depth_train[t][at].astype(float)[:, None]))
        frames.append(np.full(len(chosen), t))
    found = Sightings(np.concatenate(points), np.concatenate(frames)) if points else None
    return found if found is not None and len(found.frames) >= LEAST_SIGHTINGS else None


def refined_similarity(
    est: Float[np.ndarray, "frames 4 4"],
    true: Float[np.ndarray, "frames 4 4"],
    sightings: Sightings,
    true_from_est: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, "4 4"]:
    """The similarity that takes the estimate's object frame to the true one with the least angle between the directions in
    which the two motions (cam_from_obj) show the same points; soft-L1 of angles.

    true_from_est: where to start, [scale R, t; 0 1].
    """
    points, frames = sightings.points, sightings.frames
    centre = points.mean(0)
    distance = float(np.median(np.linalg.norm(_moved(true, frames, points), axis=-1)))
    seen = _direction(_moved(true, frames, points))
    cam_from_true = est @ np.linalg.inv(true_from_est)

    def correction(change: Float[np.ndarray, "7"]) -> Float[np.ndarray, "4 4"]:
        """Similarity about the points' centre: log scale, rotation vector, shift over distance."""
        turned = np.exp(change[0]) * Rotation.from_rotvec(change[1:4]).as_matrix()
        moved = np.eye(4)
        moved[:3, :3], moved[:3, 3] = turned, centre - turned @ centre + distance * change[4:]
        return moved

    def difference(change: Float[np.ndarray, "7"]) -> Float[np.ndarray, " residuals"]:
        there = transform(np.linalg.inv(correction(change)), points)
        return (_direction(_moved(cam_from_true, frames, there)) - seen).reshape(-1)

    change = np.zeros(7)
    for _ in range(ROUNDS):
        usual = float(np.median(np.linalg.norm(difference(change).reshape(-1, 3), axis=-1)))
        scale = OUTLIER * max(usual, LEAST_ANGLE)
        change = least_squares(difference, change, x_scale="jac", loss="soft_l1", f_scale=scale).x
    return correction(change) @ true_from_est


def _moved(
    cam_from_obj: Float[np.ndarray, "frames 4 4"], frames: Int[np.ndarray, " N"], points: Float[np.ndarray, "N 3"]
) -> Float[np.ndarray, "N 3"]:
    """Each point in the camera of its frame (up to a common factor of the motion)."""
    return np.einsum("nij,nj->ni", cam_from_obj[frames, :3, :3], points) + cam_from_obj[frames, :3, 3]


def _direction(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
