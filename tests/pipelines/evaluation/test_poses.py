"""Pose error: exact under the gauge, and equal to hand-worked errors."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.evaluation.poses import pose_error
from pipelines.geometry import rigid, transform


def motion(seed: int = 0, n: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(np.linspace(0, 1, n)[:, None] * [0.3, 1.2, -0.4]).as_matrix()
    return rigid(turn, np.array([0.2, -0.1, 4.0]) + rng.normal(size=(n, 3)) * 0.3)


def regauged(true: np.ndarray, scale: float = 0.25) -> np.ndarray:
    """The same motion seen from another object frame, in a unit that is `scale` true units long."""
    true_from_est = rigid(Rotation.from_rotvec([0.5, -0.2, 0.9]).as_matrix(), np.array([0.3, 0.1, -0.6]))
    est = true @ true_from_est
    est[:, :3, 3] /= scale
    return est


def test_zero_for_the_same_motion_in_another_frame_and_unit():
    true = motion()
    error = pose_error(regauged(true), true)
    assert error.rotation_deg == pytest.approx(0, abs=1e-5)
    assert error.position == pytest.approx(0, abs=1e-9)
    assert error.scale == pytest.approx(0.25)


def test_similarity_takes_points_of_the_estimate_to_the_truth():
    true = motion()
    est = regauged(true)
    points = np.random.default_rng(1).normal(size=(7, 3))
    error = pose_error(est, true)
    seen_est = error.scale * transform(est, np.broadcast_to(points, (len(est), 7, 3)))
    points_true = points @ error.true_from_est[:3, :3].T + error.true_from_est[:3, 3]
    np.testing.assert_allclose(transform(true, np.broadcast_to(points_true, (len(est), 7, 3))), seen_est, atol=1e-9)


def test_known_errors_are_measured():
    true = motion(n=100)
    est = true.copy()
    # Opposite turns of 2 degrees about the viewing axis cancel in the alignment and leave 2 degrees each.
    for sign, frames in ((1, slice(0, None, 2)), (-1, slice(1, None, 2))):
        est[frames, :3, :3] = Rotation.from_rotvec([0, 0, sign * np.radians(2)]).as_matrix() @ true[frames, :3, :3]
    error = pose_error(est, true)
    assert error.rotation_deg == pytest.approx(2.0, abs=0.05)
    assert error.position == pytest.approx(0, abs=1e-9)


def test_position_is_relative_to_the_distance():
    true = motion()
    est = true.copy()
    est[::2, 0, 3] += 0.01
    est[1::2, 0, 3] -= 0.01
    assert pose_error(est, true, distance=2.0).position == pytest.approx(0.01 / 2, rel=0.1)


def test_a_missing_frame_does_not_count():
    true = motion()
    est = regauged(true)
    est[4] = np.eye(4)
    registered = np.arange(len(true)) != 4
    error = pose_error(est, true, registered)
    assert error.rotation_deg < 1e-5
    assert error.n_frames == len(true) - 1


def test_too_few_frames_are_infinitely_wrong():
    true = motion()
    registered = np.zeros(len(true), bool)
    registered[:2] = True
    assert pose_error(true, true, registered).rotation_deg == np.inf


def test_mirrored_motion_is_not_forgiven():
    true = motion()
    mirror = np.diag([1.0, 1.0, -1.0])
    est = true.copy()
    est[:, :3, :3] = mirror @ true[:, :3, :3] @ mirror
    assert pose_error(est, true).rotation_deg > 5


@pytest.mark.parametrize("turns", [False, True])
def test_a_camera_that_stays_where_it_is_tells_no_unit(turns):
    """Whatever its unit, a shift of the origin explains its translations."""
    true = motion()
    if not turns:
        true[:, :3, :3] = true[0, :3, :3]
    true[:, :3, 3] = -true[:, :3, :3] @ [0.3, -0.2, 1.5]
    error = pose_error(regauged(true), true)
    assert np.isnan(error.scale) and np.isnan(error.position)
    assert error.rotation_deg < 1e-5
