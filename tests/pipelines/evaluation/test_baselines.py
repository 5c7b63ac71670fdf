import numpy as np
import pytest

from pipelines.errors import InputError, ReconstructionError
from pipelines.evaluation import baselines
from pipelines.scene.evidence import AloneMaps
from pipelines.scene.zone import Zone


@pytest.fixture
def maps() -> AloneMaps:
    """One frame: the background at 8 of its units on the left, object 1 at 2 of its own on the right, object 2 nowhere."""
    depth = np.full((1, 3, 4, 6), np.inf, np.float32)
    depth[0, 0], depth[0, 1, :, 3:] = 8, 2
    column = np.zeros((1, 4, 6), np.uint8)
    column[0, :, 3:] = 1
    return AloneMaps(
        depth=depth,
        opacity=np.isfinite(depth).astype(np.float32),
        column=column,
        frames=np.array([7]),
        intrinsics=np.eye(3),
        cam_from_obj=np.tile(np.eye(4), (3, 1, 1, 1)),
        registered=np.ones((3, 1), bool),
    )


def zone_of(bounds: list[list[float]]) -> Zone:
    n = len(bounds)
    matrix = np.array(bounds, float)
    return Zone(matrix, np.full((n, n), -1), np.full((n, n, 2), np.nan), np.zeros((n, n), bool), np.zeros((n, n), bool), 0.0)


def test_ones_puts_every_object_at_the_same_median_depth(maps):
    np.testing.assert_allclose(baselines.ones(maps), [0, np.log(4), 0])


def test_a_depth_prior_gives_the_ratio_of_its_depths(maps):
    # The prior's unit is arbitrary: it sees the background at 80 and the object at 60, that is at 6 of the world's units.
    prior = np.full((4, 6), 80.0, np.float32)
    prior[:, 3:] = 60
    np.testing.assert_allclose(baselines.depth_prior(maps, {7: prior}), [0, np.log(3), 0], atol=1e-6)


def test_depth_maps_are_read_at_the_size_of_the_maps(maps, tmp_path):
    np.save(tmp_path / "000007.npy", np.full((8, 12), 5.0))
    assert baselines.read_depth_prior(tmp_path, maps)[7].shape == (4, 6)


def test_a_prior_that_does_not_fit_is_refused(maps, tmp_path):
    with pytest.raises(InputError, match="no depth map of the scene's frames"):
        baselines.read_depth_prior(tmp_path, maps)
    np.save(tmp_path / "000007.npy", np.zeros((2, 3, 4)))
    with pytest.raises(InputError, match="shape"):
        baselines.read_depth_prior(tmp_path, maps)
    with pytest.raises(InputError, match="background in no frame"):
        baselines.depth_prior(maps, {})


def test_contact_is_every_upper_bound_at_once():
    # x1 <= 1, x2 <= 3, x2 - x1 <= 0.5: the second can only go to 1.5.
    zone = zone_of([[0, 2, 2], [1, 0, np.inf], [3, 0.5, 0]])
    contact = baselines.contact(zone)
    np.testing.assert_allclose(contact, [0, 1, 1.5])
    assert zone.contains(contact[None] - 1e-9 * np.array([0, 1, 1])).all()


def test_the_centre_of_a_box_is_its_middle():
    zone = zone_of([[0, 1.0, 0.0], [1.0, 0, np.inf], [2.0, np.inf, 0]])
    np.testing.assert_allclose(baselines.zone_centre(zone, np.random.default_rng(0)), [0, 0, 1], atol=0.06)


def test_an_empty_zone_has_no_contact():
    with pytest.raises(ReconstructionError, match="no scales agree"):
        baselines.contact(zone_of([[0, -1], [0, 0]]))
