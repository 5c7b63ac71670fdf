"""How wrong one object's motion is, measured so that nearly collinear camera centres do no harm (DESIGN section 8).

Symbols
    R_est, tau_est      cam_from_obj of the estimate, in the estimate's own object frame and unit
    R_true, tau_true    cam_from_obj of the truth
    A                   est_from_true rotation of the object's frame: R_est A = R_true for a perfect estimate
    scale, shift        tau_true = scale · tau_est + R_true · shift
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipelines.geometry import align_rotations, rigid, rotation_angle_deg

MIN_FRAMES = 3
"""Fewer common frames leave the alignment undetermined: the errors are infinite."""
LEAST_MOTION = 1e-6
"""Share of the translations that a shift of the origin alone must not explain, or the unit is undetermined."""


@dataclass(frozen=True)
class PoseError:
    """Pose error of one object over the frames where it is registered."""

    rotation_deg: float
    """Median angle left after aligning the rotations."""
    position: float
    """Median translation residual over the object's distance (0.01 is 1 %)."""
    n_frames: int
    scale: float
    """True length of the estimate's unit: multiply lengths of the estimate by it to get lengths of the truth."""
    true_from_est: Float[np.ndarray, "4 4"]
    """Similarity [scale R, t; 0 1] taking points of the estimate's object frame to the true object frame."""


def pose_error(
    est: Float[np.ndarray, "frames 4 4"],
    true: Float[np.ndarray, "frames 4 4"],
    registered: Bool[np.ndarray, " frames"] | None = None,
    distance: float | None = None,
) -> PoseError:
    """Compare cam_from_obj with the truth, free of the object's own frame and unit.

    distance: what the position residual is divided by, in true units; by default the median |tau_true|, which means the
        object's distance only while its true origin lies on it (for a background whose origin is a camera, give one).
    With fewer than 3 registered frames nothing can be aligned: errors are infinite, the scale is 1. Without any motion of
    the camera the unit is not known: the scale and the position error are NaN.
    """
    use = np.ones(len(est), bool) if registered is None else registered
    n_frames = int(use.sum())
    if n_frames < MIN_FRAMES:
        return PoseError(np.inf, np.inf, n_frames, 1.0, np.eye(4))
    r_est, r_true = est[use, :3, :3], true[use, :3, :3]
    tau_est, tau_true = est[use, :3, 3], true[use, :3, 3]
    est_from_true = align_rotations(r_est, r_true)
    angles_deg = rotation_angle_deg(np.swapaxes(r_est @ est_from_true, 1, 2) @ r_true)

    design = np.concatenate([tau_est[..., None], r_true], -1).reshape(-1, 4)
    solution = np.linalg.lstsq(design, tau_true.reshape(-1), rcond=None)[0]
    residual = (design @ solution - tau_true.reshape(-1)).reshape(-1, 3)
    scale, shift = float(solution[0]), solution[1:]
    still = np.linalg.lstsq(design[:, 1:], design[:, 0], rcond=None)[0]
    if np.linalg.norm(design[:, 1:] @ still - design[:, 0]) <= LEAST_MOTION * np.linalg.norm(design[:, 0]):
        return PoseError(float(np.median(angles_deg)), np.nan, n_frames, np.nan, np.eye(4))
    if distance is None:
        distance = float(np.median(np.linalg.norm(tau_true, axis=-1)))
    # x_cam = scale (R_est x + tau_est) = R_true (scale A^T x - shift) + tau_true
    true_from_est = rigid(scale * est_from_true.T, -shift)
    return PoseError(
        rotation_deg=float(np.median(angles_deg)),
        position=float(np.median(np.linalg.norm(residual, axis=-1)) / distance),
        n_frames=n_frames,
        scale=scale,
        true_from_est=true_from_est,
    )
