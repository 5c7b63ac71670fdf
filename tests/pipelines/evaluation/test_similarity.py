import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.evaluation.poses import pose_error
from pipelines.evaluation.similarity import Sightings, refined_similarity, true_sightings
from pipelines.geometry import rigid, transform
from pipelines.synthetic import SceneSpec, make_scene

TRUE_FROM_OWN = rigid(Rotation.from_rotvec([0.5, -0.2, 0.9]).as_matrix(), np.array([0.3, 0.1, -0.6]))
UNIT = 0.4
"""True length of the estimate's unit."""


def turning(n_frames: int = 24) -> np.ndarray:
    """A crate four units away that passes by and turns by 20 degrees."""
    at = np.linspace(-1, 1, n_frames)
    rotation = Rotation.from_rotvec(np.outer(at, [0.02, np.radians(10), 0.01])).as_matrix()
    return rigid(rotation, np.stack([0.5 * at, 0.1 * at**2, 4 + 0.1 * at], -1))


def estimated(true: np.ndarray) -> np.ndarray:
    """The same motion in a frame and a unit of its own."""
    est = true @ TRUE_FROM_OWN
    est[:, :3, 3] /= UNIT
    return est


def sighted(n_frames: int, n: int = 40) -> Sightings:
    points = np.random.default_rng(1).uniform(-0.5, 0.5, (n_frames, n, 3))
    return Sightings(points.reshape(-1, 3), np.arange(n_frames).repeat(n))


def placed(true_from_est: np.ndarray) -> np.ndarray:
    """Where the similarity puts the corners of the crate, relative to where they are."""
    corners = np.array(list(np.ndindex(2, 2, 2))) - 0.5
    own = transform(np.linalg.inv(TRUE_FROM_OWN), corners) / UNIT
    return transform(true_from_est, own) - corners


def test_a_perfect_estimate_is_placed_exactly():
    true = turning()
    est = estimated(true)
    start = pose_error(est, true).true_from_est
    np.testing.assert_allclose(placed(refined_similarity(est, true, sighted(len(true)), start)), 0, atol=1e-6)


def test_errors_along_the_view_do_not_change_the_unit():
    """Depth, which an image can hardly show, is ten times as uncertain as the rest: the closed form takes it at its word."""
    true, random, before, after = turning(), np.random.default_rng(0), [], []
    for _ in range(5):
        noisy = true.copy()
        noisy[:, :2, 3] += random.normal(0, 0.0005, (len(true), 2))
        noisy[:, 2, 3] += random.normal(0, 0.03, len(true))
        est = estimated(noisy)
        start = pose_error(est, true).true_from_est
        before.append(np.abs(placed(start)).max())
        after.append(np.abs(placed(refined_similarity(est, true, sighted(len(true)), start))).max())
    assert np.mean(after) < 0.5 * np.mean(before)


def test_a_few_wrong_frames_do_not_pull():
    true = turning()
    wrong = true.copy()
    wrong[[3, 11]] = wrong[[3, 11]] @ rigid(Rotation.from_euler("y", 8, degrees=True).as_matrix(), np.array([0, 0, 0.05]))
    est = estimated(wrong)
    start = pose_error(est, true).true_from_est
    found = placed(refined_similarity(est, true, sighted(len(true)), start))
    assert np.abs(found).max() < 0.01 < np.abs(placed(start)).max()


def test_the_truth_tells_where_an_object_is_seen(tmp_path):
    scene = make_scene(SceneSpec(seed=3, n_movers=2, n_frames=5, width=64, height=48, candidates=1))
    truth = scene.ground_truth(tmp_path)
    motion, registered = truth.cam_from_obj()[1], np.array([True, True, False, True, True])
    found = true_sightings(truth, 1, motion, registered)
    assert found is not None and set(found.frames.tolist()) <= {0, 1, 3, 4}
    in_camera = np.stack([transform(motion[t], x[None])[0] for t, x in zip(found.frames, found.points, strict=True)])
    xy_px = (in_camera @ truth.intrinsics.T)[:, :2] / in_camera[:, 2:]
    column, row = np.floor(xy_px).astype(int).T
    assert (truth.segm_train[found.frames, row, column] == 1).all()
    assert in_camera[:, 2] == pytest.approx(truth.depth_train[found.frames, row, column], rel=1e-5)
    assert true_sightings(truth, 1, motion, np.zeros(5, bool)) is None
