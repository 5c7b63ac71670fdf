from dataclasses import replace

import numpy as np
import pytest

from pipelines import geometry
from pipelines.errors import ReconstructionError
from pipelines.evaluation.alignment import align
from pipelines.synthetic import SceneSpec, make_scene
from pipelines.synthetic.oracle import OracleScene


@pytest.fixture(scope="module")
def oracle() -> OracleScene:
    truth = make_scene(SceneSpec(seed=3, n_movers=2, n_frames=5, width=64, height=48, candidates=1))
    return OracleScene(truth, np.array([2.0, 0.5, 3.0]))


def reframed(oracle: OracleScene, rng: np.random.Generator) -> np.ndarray:
    """Poses as SfM gives them: every object's frame is rotated and shifted at will."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3, 3)))
    rotation *= np.linalg.det(rotation)[:, None, None]
    true_from_own = geometry.rigid(rotation, rng.normal(size=(3, 3)))
    return oracle.cam_from_obj @ true_from_own[:, None]


def test_units_are_found_whatever_the_frames(oracle, tmp_path):
    poses = reframed(oracle, np.random.default_rng(0))
    found = align((0, 1, 2), poses, oracle.registered, oracle.labels(), oracle.truth.ground_truth(tmp_path))
    np.testing.assert_allclose(found.true_log_scale, np.log([1, 0.25, 1.5]), atol=1e-6)
    assert found.columns == (0, 1, 2) and found.true_of == {0: 0, 1: 1, 2: 2}


def test_a_true_camera_is_placed_in_the_scenes_world(oracle, tmp_path):
    """A point seen by the held-out camera has the same pixel in both worlds."""
    poses = reframed(oracle, np.random.default_rng(1))
    truth = oracle.truth.ground_truth(tmp_path)
    found = align((0, 1, 2), poses, oracle.registered, oracle.labels(), truth)
    view = truth.cam_from_world_test[2]
    own = found.view_from_world(view)
    np.testing.assert_allclose(own[:3, :3] @ own[:3, :3].T, np.eye(3), atol=1e-9)
    in_world = np.random.default_rng(2).normal(size=(6, 3))
    true_points = geometry.transform(view, geometry.transform(found.poses[0].true_from_est, in_world))
    np.testing.assert_allclose(2.0 * geometry.transform(own, in_world), true_points, atol=1e-6)


def test_an_object_with_too_few_frames_is_unknown(oracle, tmp_path):
    registered = oracle.registered.copy()
    registered[1, 2:] = False
    found = align((0, 1, 2), oracle.cam_from_obj, registered, oracle.labels(), oracle.truth.ground_truth(tmp_path))
    assert found.columns == (0, 2) and np.isnan(found.true_log_scale[1])


def test_a_camera_that_stands_still_cannot_be_aligned(oracle, tmp_path):
    poses, truth = oracle.cam_from_obj.copy(), oracle.truth.ground_truth(tmp_path)
    poses[0] = poses[0, 0]
    truth = replace(truth, cam_from_world_train=np.repeat(truth.cam_from_world_train[:1], truth.n_frames, 0))
    with pytest.raises(ReconstructionError, match="no common world"):
        align((0, 1, 2), poses, oracle.registered, oracle.labels(), truth)


def test_one_frame_of_the_background_is_no_common_world(oracle, tmp_path):
    registered = oracle.registered.copy()
    registered[0, 1:] = False
    with pytest.raises(ReconstructionError, match="no common world"):
        align((0, 1, 2), oracle.cam_from_obj, registered, oracle.labels(), oracle.truth.ground_truth(tmp_path))


def test_positions_are_relative_to_what_the_film_shows(oracle, tmp_path):
    """And not to the distance of an origin, which for the background may be a camera."""
    truth = oracle.truth.ground_truth(tmp_path)
    poses = oracle.cam_from_obj.copy()
    poses[0, ::2, 0, 3] += 0.005
    depth, moved = np.median(truth.depth_train[truth.segm_train == 0]), {}
    for name, world_from_new in (("here", np.eye(4)), ("far", geometry.rigid(np.eye(3), np.array([0, 0, 50.0])))):
        there = replace(
            truth,
            cam_from_world_train=truth.cam_from_world_train @ world_from_new,
            world_from_object=np.linalg.inv(world_from_new) @ truth.world_from_object,
        )
        found = align((0, 1, 2), poses, oracle.registered, oracle.labels(), there)
        moved[name] = found.poses[0].position
    assert moved["far"] == pytest.approx(moved["here"], rel=1e-3)
    assert 0 < moved["here"] < 0.01 / depth
    unknown = align((0, 1, 2), poses, oracle.registered, oracle.labels(), replace(truth, depth_train=None))
    assert np.isnan(unknown.poses[0].position)


def test_labels_are_resized_by_the_nearest_centre():
    labels = np.array([[[1, 2], [3, 4]]], np.uint8)
    assert geometry.at_pixel_centres(labels, 4, 2)[0].tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]
    assert geometry.at_pixel_centres(np.repeat(labels, 3, 2), 2, 2)[0].tolist() == [[1, 2], [3, 4]]
