from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import InputError
from pipelines.ground_truth import GroundTruth


@pytest.fixture
def truth(tmp_path: Path) -> GroundTruth:
    """Two frames of two objects, 3 x 4 pixels, written in our own layout."""
    rng = np.random.default_rng(0)
    eye = np.tile(np.eye(4), (2, 1, 1))
    moved = np.tile(np.eye(4), (2, 2, 1, 1))
    moved[:, 1, :3, 3] = [[1, 2, 3], [4, 5, 6]]
    cam_from_world = eye.copy()
    cam_from_world[:, 2, 3] = 10
    for name in ("images_train", "images_test"):
        (tmp_path / name).mkdir()
        for t in range(2):
            Image.fromarray(rng.integers(0, 255, (3, 4, 3), np.uint8)).save(tmp_path / name / f"{t:04d}.png")
    written = GroundTruth(
        folder=tmp_path,
        intrinsics=np.array([[5.0, 0, 2], [0, 5, 1.5], [0, 0, 1]]),
        width=4,
        height=3,
        fps=12.0,
        cam_from_world_train=cam_from_world,
        cam_from_world_test=eye,
        frame_test=np.arange(2),
        world_from_object=moved,
        depth_train=np.full((2, 3, 4), 2.5, np.float32),
        depth_test=np.full((2, 3, 4), 3.5, np.float32),
        segm_train=np.ones((2, 3, 4), np.uint8),
        segm_test=np.zeros((2, 3, 4), np.uint8),
        depth_alone=np.full((2, 2, 3, 4), 1.5, np.float32),
    )
    written.save(tmp_path)
    return written


def test_what_is_saved_is_loaded(truth):
    loaded = GroundTruth.load(truth.folder)
    for name in ("intrinsics", "cam_from_world_train", "world_from_object", "depth_train", "segm_train", "depth_alone"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(truth, name))
    assert (loaded.width, loaded.height, loaded.fps, loaded.n_frames, loaded.n_test, loaded.n_objects) == (4, 3, 12, 2, 2, 2)
    assert loaded.image_test(1).shape == (3, 4, 3)


def test_objects_are_seen_from_the_filming_camera(truth):
    # The object's origin is at (4, 5, 6) at time 1, and the camera stands ten units behind the world's origin.
    np.testing.assert_allclose(truth.cam_from_obj()[1, 1, :3, 3], [4, 5, 16])


def test_the_playroom_is_read(playroom):
    loaded = GroundTruth.load(playroom)
    assert loaded.cam_from_obj().shape == (4, 32, 4, 4)
    # Where an object is seen, its depth alone is the depth of the scene.
    seen = loaded.segm_train == 2
    np.testing.assert_allclose(loaded.depth_alone[:, 2][seen], loaded.depth_train[seen], rtol=2e-3)


def test_a_folder_without_truth_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no gt\.npz"):
        GroundTruth.load(tmp_path)


def test_a_missing_key_is_named(truth):
    np.savez(truth.folder / "gt.npz", K=np.eye(3))
    with pytest.raises(InputError, match="lacks cam_from_world_train"):
        GroundTruth.load(truth.folder)


def test_unknown_truth_is_not_written(truth, tmp_path):
    with pytest.raises(InputError, match="lacks depth_test"):
        replace(truth, depth_test=None).save(tmp_path)


def test_object_poses_that_are_not_known_are_refused(truth):
    with pytest.raises(InputError, match="has no object poses"):
        replace(truth, world_from_object=None).cam_from_obj()
