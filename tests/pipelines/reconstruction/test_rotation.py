"""A camera that only turns."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.geometry import rotation_angle_deg
from pipelines.reconstruction.grow import GrowOptions
from pipelines.reconstruction.rotation import rotate_only, sides, turn_between
from pipelines.reconstruction.sightings import Sightings

FOCAL_PX = 300.0


def turning(n_frames: int = 8, noise_px: float = 0.05) -> tuple[np.ndarray, Sightings]:
    rng = np.random.default_rng(0)
    rotations = Rotation.from_rotvec(np.linspace(0, 0.25, n_frames)[:, None] * [0.1, 1, 0.2]).as_matrix()
    directions = np.concatenate([rng.uniform(-0.4, 0.4, (60, 2)), np.ones((60, 1))], -1)
    cam = np.einsum("tij,pj->tpi", rotations, directions)
    xy_px = FOCAL_PX * cam[..., :2] / cam[..., 2:]
    return rotations, Sightings(xy_px + rng.normal(size=xy_px.shape) * noise_px)


def test_rotations_are_found_and_translations_stay_zero():
    rotations, sightings = turning()
    adjusted = rotate_only(sightings, FOCAL_PX, GrowOptions(0.3, 2.0, 8))
    poses = adjusted.structure.cam_from_obj
    relative = poses[:, :3, :3] @ poses[0, :3, :3].T
    assert rotation_angle_deg(np.swapaxes(relative, 1, 2) @ rotations).max() < 0.05
    np.testing.assert_array_equal(poses[:, :3, 3], 0)
    np.testing.assert_allclose(np.linalg.norm(adjusted.structure.points, axis=-1), 1)
    assert np.all(sides(sightings) == 0)


def test_the_focal_length_shows_in_a_turn():
    _, sightings = turning(noise_px=0.01)
    adjusted = rotate_only(sightings, FOCAL_PX * 1.15, GrowOptions(0.3, 2.0, 8, free_focal=True))
    assert abs(adjusted.structure.focal_px / FOCAL_PX - 1) < 0.02


def test_turn_between_ignores_outliers():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 3))
    a /= np.linalg.norm(a, axis=-1, keepdims=True)
    rotation = Rotation.from_rotvec([0.1, -0.2, 0.3]).as_matrix()
    b = a @ rotation.T + rng.normal(size=a.shape) * 1e-4
    b[:8] = b[:8][::-1]
    assert rotation_angle_deg(turn_between(a, b) @ rotation.T) < 0.1


@pytest.mark.parametrize("n_crossing", [0, 10])
def test_a_break_of_most_tracks_does_not_stop_the_turn(n_crossing):
    """Frames 5 and 6 show nothing; some tracks, or none, are seen before and after."""
    rotations, sightings = turning(14, noise_px=0.02)
    xy_px = np.concatenate([sightings.xy_px, sightings.xy_px], 1)
    xy_px[5:, n_crossing:60] = np.nan
    xy_px[:7, 60:] = np.nan
    xy_px[5:7] = np.nan
    broken = Sightings(xy_px)
    poses = rotate_only(broken, FOCAL_PX, GrowOptions(0.3, 2.0, 8)).structure.cam_from_obj[:, :3, :3]
    relative = poses @ poses[0].T
    assert rotation_angle_deg(np.swapaxes(relative, 1, 2) @ rotations).max() < (0.05 if n_crossing else 0.3)
    side = sides(broken)
    assert set(side[7:]) == {0}, "the larger side"
    assert set(side[:5]) == ({0} if n_crossing else {1})
    assert not np.isin(side[5:7], side[[0, 7]]).any()
