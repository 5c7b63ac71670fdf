import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.segmentation.three_view import fit_affine, fit_best, fit_projective, robust_variance

NOISE = 0.01
MOTIONS = (((0, 0, 0), (0, 0, 0)), ((0.05, -0.1, 0.02), (0.4, 0.1, 0.2)), ((-0.08, 0.06, 0.1), (0.5, -0.4, -0.3)))


def rigid_views(rng: np.random.Generator, n: int, extent: float = 1.5) -> np.ndarray:
    """(n, 3, 2) normalised image points of n random points seen from three places."""
    points = rng.uniform(-extent, extent, (n, 3)) + np.array([0, 0, 5])
    seen = [Rotation.from_rotvec(axis).apply(points) + translation for axis, translation in MOTIONS]
    return np.stack([view[:, :2] / view[:, 2:] for view in seen], 1)


def test_projective_motion_explains_a_rigid_scene_and_not_a_mover() -> None:
    rng = np.random.default_rng(0)
    static = rigid_views(rng, 60)
    motion, residuals = fit_projective(static, np.ones(60), NOISE)
    assert residuals.max() < 1e-12
    mover = static[:5] + np.array([[0, 0], [0.02, 0.01], [-0.01, 0.03]])
    assert motion.squared_residuals(mover).min() > 1e-5


def test_a_mover_along_the_epipolar_lines_is_found_by_the_third_view() -> None:
    # A camera that slides sideways makes points move along rows; so does this mover, but not in proportion.
    rng = np.random.default_rng(1)
    depth = rng.uniform(2, 6, 50)
    first = rng.uniform(-1, 1, (50, 2))
    views = np.stack([first + np.stack([shift / depth, np.zeros(50)], 1) for shift in (0.0, 0.5, 1.0)], 1)
    motion, _ = fit_projective(views, np.ones(50), NOISE)
    mover = views[:1] + np.array([[0, 0], [0.1, 0], [0.0, 0]])
    assert motion.squared_residuals(views).max() < 1e-12
    assert motion.squared_residuals(mover)[0] > 1e-4


def test_small_objects_get_the_affine_model_and_large_ones_the_projective() -> None:
    rng = np.random.default_rng(2)
    small = rigid_views(rng, 40, extent=0.02) + rng.normal(0, 1e-4, (40, 3, 2))
    assert fit_best(small, np.ones(40), 3e-4, 1.3)[0].tensor is None
    large = rigid_views(rng, 80) + rng.normal(0, 1e-4, (80, 3, 2))
    motion, variance = fit_best(large, np.ones(80), 3e-4, 1.3)
    assert motion.tensor is not None
    assert variance == pytest.approx(1e-8, rel=0.5)


def test_affine_residual_counts_noise_per_constraint() -> None:
    rng = np.random.default_rng(3)
    views = rigid_views(rng, 400, extent=0.01) + rng.normal(0, 1e-3, (400, 3, 2))
    _, residuals = fit_affine(views, np.ones(400), 3e-3)
    assert residuals.mean() == pytest.approx(1e-6, rel=0.15)
    assert robust_variance(residuals, 12) == pytest.approx(1e-6, rel=0.2)
