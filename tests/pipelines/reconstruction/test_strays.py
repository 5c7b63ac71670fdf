"""Two bodies in one mask: whose tracks, whose pixels, and what is said."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.artifacts import UNKNOWN, ObjectModel, SfmStatus
from pipelines.geometry import rigid, transform
from pipelines.reconstruction.sightings import Sightings
from pipelines.reconstruction.strays import Strays, corrected_maps, find_strays, track_error_px

FOCAL_PX, N_FRAMES, WIDTH, HEIGHT = 300.0, 12, 160, 80
PRINCIPAL_PX = np.array([WIDTH / 2, HEIGHT / 2])
N_OWN, N_STRANGE = 120, 40


def motion(x: float, axis: tuple[float, float, float]) -> np.ndarray:
    s = np.linspace(-1, 1, N_FRAMES)
    turn = Rotation.from_rotvec(s[:, None] * np.array(axis)).as_matrix()
    return rigid(turn, np.stack([x + 0.05 * s, 0.02 * s, 4 + 0.1 * s], -1))


OWN, STRANGE = motion(-0.5, (0.1, 0.5, 0.0)), motion(0.5, (0.5, -0.2, 0.1))


def filmed(cam_from_obj: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    points = rng.uniform(-0.25, 0.25, (n, 3))
    cam = transform(cam_from_obj, np.broadcast_to(points, (N_FRAMES, n, 3)))
    return FOCAL_PX * cam[..., :2] / cam[..., 2:] + rng.normal(size=(N_FRAMES, n, 2)) * 0.05


def model(k: int, cam_from_obj: np.ndarray) -> ObjectModel:
    empty = ObjectModel.failed(k, SfmStatus.OK, "", N_FRAMES)
    every = np.ones(N_FRAMES, bool)
    return replace(empty, registered=every, cam_from_obj=cam_from_obj, quality={"median_error_px": 0.06})


@pytest.fixture(scope="module")
def mixed() -> Sightings:
    """The tracks of one body, then those of another in the same mask."""
    rng = np.random.default_rng(0)
    return Sightings(np.concatenate([filmed(OWN, N_OWN, rng), filmed(STRANGE, N_STRANGE, rng)], 1))


def test_a_strangers_tracks_are_off_under_the_objects_poses(mixed):
    error_px = track_error_px(mixed, model(1, OWN), FOCAL_PX)
    assert np.median(error_px[:N_OWN]) < 0.1
    assert np.median(error_px[N_OWN:]) > 0.5


def test_errors_of_hardly_seen_tracks_are_unknown(mixed):
    shown = replace(model(1, OWN), registered=np.arange(N_FRAMES) < 3)
    assert np.isnan(track_error_px(mixed, shown, FOCAL_PX)).all()


def test_strangers_are_found_with_their_owner(mixed):
    found = find_strays(mixed, model(1, OWN), {2: model(2, STRANGE), 3: model(3, motion(0.5, (0.0, 0.0, 0.6)))}, FOCAL_PX)
    assert set(found.tracks) <= set(range(N_OWN, N_OWN + N_STRANGE))
    assert len(found) > 0.8 * N_STRANGE
    assert np.mean(found.owner == 2) > 0.9


def test_a_stranger_without_a_reconstruction_has_no_owner(mixed):
    found = find_strays(mixed, model(1, OWN), {}, FOCAL_PX)
    assert len(found) > 0.8 * N_STRANGE
    assert np.all(found.owner == UNKNOWN)


def test_scattered_bad_tracks_are_no_strangers():
    rng = np.random.default_rng(1)
    xy_px = filmed(OWN, N_OWN, rng)
    xy_px[:, ::6] += rng.normal(size=xy_px[:, ::6].shape)
    assert len(find_strays(Sightings(xy_px), model(1, OWN), {2: model(2, STRANGE)}, FOCAL_PX)) == 0


@pytest.mark.parametrize(
    ("n_owned", "n_rest", "of_background", "n_leaving"),
    [
        (20, 0, False, 20),
        (0, 5, False, 0),  # a wheel stays with the car
        (0, 10, False, 10),
        (20, 10, True, 20),  # what nothing explains in the background has no outline
    ],
)
def test_what_leaves_the_mask(n_owned, n_rest, of_background, n_leaving):
    owner = np.repeat([2, UNKNOWN], [n_owned, n_rest])
    assert len(Strays(np.arange(len(owner)), owner).taken_out(100, of_background=of_background)) == n_leaving


def test_what_is_said(mixed):
    tracks = np.arange(N_OWN, N_OWN + N_STRANGE)
    names = ("background", "cross", "rocket")
    [owned] = Strays(tracks, np.full(N_STRANGE, 2)).told(names, 1, mixed, PRINCIPAL_PX)
    assert owned == "25 % of the tracks of cross move as rocket does: that part is given to it"
    [lost] = Strays(tracks, np.full(N_STRANGE, UNKNOWN)).told(names, 1, mixed, PRINCIPAL_PX)
    assert "move otherwise and are left out" in lost and "check overlay.mp4" in lost
    [part] = Strays(tracks[:8], np.full(8, UNKNOWN)).told(names, 1, mixed, PRINCIPAL_PX)
    assert "left out" not in part and "check overlay.mp4" in part
    assert Strays(tracks[:2], np.full(2, UNKNOWN)).told(names, 1, mixed, PRINCIPAL_PX) == []


def test_pixels_follow_the_nearest_track(mixed):
    """The mask spans both bodies, which are left and right of the middle."""
    maps = np.zeros((N_FRAMES, HEIGHT, WIDTH), np.uint8)
    maps[:, 20:60, 20:140] = 1
    strays = Strays(np.arange(N_OWN, N_OWN + N_STRANGE), np.full(N_STRANGE, 2))
    fixed = corrected_maps(maps, 1, strays, mixed, PRINCIPAL_PX)
    assert np.array_equal(fixed == 0, maps == 0)
    assert np.all(fixed[:, 20:60, 20:60] == 1)
    assert np.all(fixed[:, 20:60, 100:140] == 2)
