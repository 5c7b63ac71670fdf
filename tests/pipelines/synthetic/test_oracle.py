"""The perfect stand-in must obey the geometry of DESIGN section 2 exactly."""

import numpy as np
import pytest

from pipelines import geometry
from pipelines.synthetic import SceneSpec, SyntheticScene, make_scene
from pipelines.synthetic.oracle import OracleScene

SPEC = SceneSpec(seed=3, n_movers=2, n_frames=4, width=96, height=72, candidates=1)


@pytest.fixture(scope="module")
def truth() -> SyntheticScene:
    return make_scene(SPEC)


@pytest.fixture
def oracle(truth) -> OracleScene:
    return OracleScene(truth, np.array([2.0, 0.5, 3.0]))


def test_the_true_scales_give_the_film(truth, oracle):
    view = oracle.render(t=2, scale=np.exp(oracle.true_log_scale))
    np.testing.assert_allclose(255 * view.rgb, truth.images_train[2], atol=0.6)
    np.testing.assert_array_equal(view.label, truth.segm_train[2])
    # The background's unit is two true units.
    np.testing.assert_allclose(2 * view.depth, truth.depth_train[2], rtol=1e-5)


def test_the_true_scales_give_the_held_out_view(truth, oracle):
    view_from_world = np.array(truth.cam_from_world_test[1])
    view_from_world[:3, 3] /= 2.0
    view = oracle.render(t=1, scale=np.exp(oracle.true_log_scale), view_from_world=view_from_world)
    assert np.abs(255 * view.rgb - truth.images_test[1]).mean() < 0.6
    np.testing.assert_array_equal(view.label, truth.segm_test[1])


def test_other_valid_scales_film_the_same_but_look_different_elsewhere(truth, oracle):
    # Smaller and so nearer: the mover still hides what it hid, unless something stands in front of it.
    front = int(np.argmin([truth.depth_alone[1, k][truth.depth_alone[1, k] > 0].min() for k in (1, 2)])) + 1
    log_scale = oracle.true_log_scale.copy()
    log_scale[front] -= 0.1
    true_view = oracle.render(t=1, scale=np.exp(oracle.true_log_scale))
    film = oracle.render(t=1, scale=np.exp(log_scale))
    agreeing = film.label == true_view.label
    assert agreeing.mean() > 0.97
    # Edges' samples are merged by depth alone, so where the labels agree inside, the colours do.
    assert np.median(np.abs(film.rgb - true_view.rgb)[agreeing]) < 1e-3
    view_from_world = np.array(truth.cam_from_world_test[1])
    view_from_world[:3, 3] /= 2.0
    elsewhere = [
        oracle.render(t=1, scale=np.exp(x), view_from_world=view_from_world).label for x in (log_scale, oracle.true_log_scale)
    ]
    assert (elsewhere[0] != elsewhere[1]).sum() > (~agreeing).sum()


def test_objects_alone_come_in_their_own_units(truth, oracle):
    maps = oracle.alone_maps(width=96, frames=[0, 3])
    own = np.where(np.isfinite(maps.depth), maps.depth, 0) * oracle.unit[:, None, None]
    np.testing.assert_allclose(own, truth.depth_alone[[0, 3]], rtol=1e-5)
    assert maps.column.tolist() == truth.segm_train[[0, 3]].tolist()


def test_poses_are_those_of_the_truth_in_own_units(truth, oracle):
    points = np.random.default_rng(0).normal(size=(5, 3))
    for k in range(3):
        true = truth.cam_from_world_train[2] @ truth.world_from_object[2, k]
        own = geometry.transform(oracle.cam_from_obj[k, 2], points / oracle.unit[k]) * oracle.unit[k]
        np.testing.assert_allclose(own, geometry.transform(true, points), atol=1e-9)
