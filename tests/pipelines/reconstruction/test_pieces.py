"""Pieces of one body are told from bodies of their own by the poses that explain their sightings."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.artifacts import Labels, ObjectModel, Sfm, SfmStatus, Tracks
from pipelines.geometry import rigid, transform
from pipelines.reconstruction.pieces import as_piece, bodies_of, misfit_under

from .conftest import FOCAL_PX

PRINCIPAL_PX = np.array([160.0, 120.0])
N_FRAMES = 16


def model_of(object_id: int, poses: np.ndarray, *, unit: float, seed: int, frames: slice = slice(None)) -> ObjectModel:
    """What a perfect reconstruction in its own frame and unit would be, with sightings of 0.05 px noise."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.3, 0.3, (40, 3)) + rng.uniform(-0.4, 0.4, 3)
    cam = transform(poses, np.broadcast_to(points, (len(poses), 40, 3)))
    xy_px = FOCAL_PX * cam[..., :2] / cam[..., 2:] + PRINCIPAL_PX + rng.normal(size=(len(poses), 40, 2)) * 0.05
    turn, shift = Rotation.from_rotvec(rng.normal(size=3)).as_matrix(), rng.normal(size=3) * 0.2
    own = rigid(poses[:, :3, :3] @ turn, (poses[:, :3, 3] + poses[:, :3, :3] @ shift) / unit)
    registered = np.zeros(len(poses), bool)
    registered[frames] = True
    frame, point = np.nonzero(np.broadcast_to(registered[:, None], (len(poses), 40)))
    return ObjectModel(
        object_id=object_id,
        status=SfmStatus.OK,
        reason="",
        registered=registered,
        cam_from_obj=np.where(registered[:, None, None], own, np.eye(4)),
        points=(points - shift) @ turn / unit,
        point_error_px=np.full(40, 0.05),
        point_rgb=np.zeros((40, 3), np.uint8),
        obs_point=point,
        obs_frame=frame,
        obs_xy_px=xy_px[frame, point],
    )


def path(axis: list[float], speed: float, away: float) -> np.ndarray:
    t = np.arange(N_FRAMES)
    turn = Rotation.from_rotvec(speed * t[:, None] * np.array(axis)).as_matrix()
    return rigid(turn, np.stack([away * t / N_FRAMES, 0.02 * t, 4 - 0.03 * t], -1))


@pytest.fixture
def models() -> list[ObjectModel]:
    """A background, a mover in two pieces of different units, and another mover."""
    camera, mover, other = path([0, 1, 0], 0.01, 0.5), path([0.2, 1, 0], 0.05, 1.0), path([0, 1, 0.3], 0.06, 1.2)
    return [
        model_of(0, camera, unit=1.0, seed=0),
        model_of(1, mover, unit=4.0, seed=1),
        model_of(2, other, unit=3.0, seed=2),
        model_of(3, mover, unit=5.0, seed=3),
    ]


def test_a_piece_is_explained_by_its_body_and_by_nothing_else(models):
    assert misfit_under(models[3], models[1], FOCAL_PX, PRINCIPAL_PX) < 1.3
    assert misfit_under(models[3], models[2], FOCAL_PX, PRINCIPAL_PX) > 4
    assert misfit_under(models[3], models[0], FOCAL_PX, PRINCIPAL_PX) > 4


def test_pieces_belong_to_the_larger_part(models):
    assert bodies_of(models, [9000, 500, 400, 300], FOCAL_PX, PRINCIPAL_PX) == {3: 1}
    assert bodies_of(models, [9000, 300, 400, 500], FOCAL_PX, PRINCIPAL_PX) == {1: 3}


def test_what_rests_belongs_to_the_background(models):
    resting = replace(model_of(2, path([0, 1, 0], 0.01, 0.5), unit=2.0, seed=7))
    assert bodies_of([*models[:2], resting], [9000, 500, 400], FOCAL_PX, PRINCIPAL_PX) == {2: 0}


def test_a_camera_that_only_turns_shows_no_rest(models):
    far = replace(models[0], status=SfmStatus.ASSUMED_DEPTH)
    resting = model_of(1, path([0, 1, 0], 0.01, 0.5), unit=2.0, seed=7)
    assert bodies_of([far, resting], [9000, 500], FOCAL_PX, PRINCIPAL_PX) == {}


def test_few_common_frames_tell_nothing(models):
    brief = model_of(3, path([0.2, 1, 0], 0.05, 1.0), unit=5.0, seed=3, frames=slice(0, 5))
    assert misfit_under(brief, models[1], FOCAL_PX, PRINCIPAL_PX) == np.inf
    late = model_of(1, path([0.2, 1, 0], 0.05, 1.0), unit=5.0, seed=3, frames=slice(8, 16))
    assert misfit_under(models[3], late, FOCAL_PX, PRINCIPAL_PX) == np.inf


def test_later_stages_see_one_object(models, tmp_path):
    joined = [*models[:3], as_piece(models[3], 1, "object 1")]
    Sfm(np.diag([FOCAL_PX, FOCAL_PX, 1]), 320, 240, tuple(joined)).save(tmp_path)
    sfm = Sfm.load(tmp_path)
    assert sfm.bodies == {3: 1}
    assert sfm.scene_ids == [0, 1, 2]
    assert sfm.objects[3].status is SfmStatus.PIECE and "part of it" in sfm.objects[3].reason
    labels = Labels(np.array([[[0, 1, 2, 3, 255]]], np.uint8), ("background", "a", "b", "c"))
    np.testing.assert_array_equal(labels.joined(sfm.bodies).maps, [[[0, 1, 2, 1, 255]]])
    tracks = Tracks(np.array([0, 1]), np.array([0, 0]), np.zeros((2, 2), np.float32), np.array([3, 2], np.uint8))
    np.testing.assert_array_equal(tracks.joined(sfm.bodies).object_id, [1, 2])
