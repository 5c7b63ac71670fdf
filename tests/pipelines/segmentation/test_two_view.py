import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.segmentation.two_view import MotionModel, fit, squared_residuals


def two_views(rng: np.random.Generator, n: int, planar: bool) -> tuple[np.ndarray, np.ndarray]:
    points = np.concatenate([rng.uniform(-1, 1, (n, 2)), np.full((n, 1), 4.0) if planar else rng.uniform(3, 6, (n, 1))], 1)
    moved = Rotation.from_rotvec([0.02, -0.05, 0.03]).apply(points) + np.array([0.3, -0.1, 0.2])
    return points[:, :2] / points[:, 2:], moved[:, :2] / moved[:, 2:]


@pytest.mark.parametrize(
    ("model", "planar", "n"),
    [(MotionModel.HOMOGRAPHY, True, 4), (MotionModel.HOMOGRAPHY, True, 30), (MotionModel.FUNDAMENTAL, False, 8)],
)
def test_exact_correspondences_are_explained_exactly(model: MotionModel, planar: bool, n: int) -> None:
    x, y = two_views(np.random.default_rng(0), 40, planar)
    matrices = fit(model, x[None, :n], y[None, :n])
    assert squared_residuals(model, matrices, x, y).max() < 1e-16


def test_affine_by_hand() -> None:
    x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    y = np.array([[2.0, 1.0], [4.0, 1.0], [2.0, 4.0]])
    matrix = fit(MotionModel.AFFINE, x[None], y[None])
    np.testing.assert_allclose(matrix[0], [[2, 0, 2], [0, 3, 1], [0, 0, 1]], atol=1e-6)
    off = squared_residuals(MotionModel.AFFINE, matrix, np.array([[1.0, 1.0]]), np.array([[4.0, 6.0]]))
    np.testing.assert_allclose(off, [[4.0]], atol=1e-5)


def test_sampson_distance_by_hand() -> None:
    # Sideways translation: matching points have the same y; half of the gap of 0.2 is moved in each image.
    matrix = np.array([[[0.0, 0, 0], [0, 0, -1], [0, 1, 0]]])
    gap = squared_residuals(MotionModel.FUNDAMENTAL, matrix, np.array([[0.3, 0.1]]), np.array([[0.9, 0.3]]))
    np.testing.assert_allclose(gap, [[0.2**2 / 2]])


def test_weights_silence_outliers() -> None:
    x, y = two_views(np.random.default_rng(1), 20, planar=True)
    y[5] += 1
    weight = np.ones((1, 20))
    weight[0, 5] = 0
    matrix = fit(MotionModel.HOMOGRAPHY, x[None], y[None], weight)
    residual = squared_residuals(MotionModel.HOMOGRAPHY, matrix, x, y)[0]
    assert residual[5] > 1
    assert np.delete(residual, 5).max() < 1e-16
