"""Bundle adjustment: derivatives against differences, exact recovery, outliers, focal length."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.evaluation.poses import pose_error
from pipelines.reconstruction import bundle
from pipelines.reconstruction.bundle import Observations, Structure, adjust, exp_rotation, reproject

from .conftest import FOCAL_PX, Toy, make_toy


def everything(toy: Toy) -> Observations:
    n_frames, n_tracks = toy.sightings.n_frames, toy.sightings.n_tracks
    return toy.sightings.observations(np.ones(n_frames, bool), np.ones(n_tracks, bool))


def disturbed(truth: Structure, seed: int = 0) -> Structure:
    rng = np.random.default_rng(seed)
    poses = truth.cam_from_obj.copy()
    poses[:, :3, :3] = exp_rotation(rng.normal(size=(len(poses), 3)) * 0.03) @ poses[:, :3, :3]
    poses[:, :3, 3] += rng.normal(size=(len(poses), 3)) * 0.02
    return replace(truth, cam_from_obj=poses, points=truth.points + rng.normal(size=truth.points.shape) * 0.03)


def test_exponential_is_scipys():
    w = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(exp_rotation(w), Rotation.from_rotvec(w).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(exp_rotation(np.zeros(3)), np.eye(3))


def test_gradient_is_the_costs_difference():
    toy = make_toy(n_frames=4, n_points=6)
    problem = bundle._Problem(disturbed(toy.truth), everything(toy), 5.0, True, False)
    equations = problem.linearise(problem.start)
    g, g_point = equations.gradient, equations.point_gradient
    step = 1e-6
    for index in range(len(g)):
        ahead, behind = (np.eye(len(g))[index] * sign * step for sign in (1, -1))
        none = np.zeros_like(g_point)
        costs = [problem.cost(problem.moved(problem.start, moved, none)) for moved in (ahead, behind)]
        slope = costs[0] - costs[1]
        assert g[index] == pytest.approx(slope / (2 * step), rel=1e-4, abs=1e-4)
    point_step = np.zeros_like(g_point)
    point_step[2, 1] = step
    still = np.zeros(len(g))
    slope = problem.cost(problem.moved(problem.start, still, point_step)) - problem.cost(
        problem.moved(problem.start, still, -point_step)
    )
    assert g_point[2, 1] == pytest.approx(slope / (2 * step), rel=1e-4)


def test_still_cameras_only_turn(toy):
    """Also in the matrix that tells uncertainties: there is nothing to know about where they are."""
    result = adjust(disturbed(toy.truth), everything(toy), loss_px=1.0, still=True, max_iterations=5)
    start = disturbed(toy.truth)
    np.testing.assert_array_equal(result.structure.cam_from_obj[:, :3, 3], start.cam_from_obj[:, :3, 3])
    assert np.abs(result.structure.cam_from_obj[:, :3, :3] - start.cam_from_obj[:, :3, :3]).max() > 1e-3
    shifts = np.arange(6 * len(result.normal.frames)) % 6 >= 3
    assert not result.normal.matrix[shifts].any()
    assert result.normal.matrix[np.ix_(~shifts, ~shifts)].any()


def test_recovers_exact_data():
    toy = make_toy(noise_px=0.0)
    result = adjust(disturbed(toy.truth), everything(toy), loss_px=1.0, max_iterations=60, tolerance=1e-12)
    assert np.abs(result.residual_px).max() < 1e-3
    error = pose_error(result.structure.cam_from_obj, toy.truth.cam_from_obj)
    assert error.rotation_deg < 0.01
    assert error.position < 1e-4


def test_outliers_hardly_matter():
    toy = make_toy()
    observed = everything(toy)
    wrong = np.random.default_rng(1).random(len(observed.frame)) < 0.1
    observed.xy_px[wrong] += 30
    error = pose_error(
        adjust(disturbed(toy.truth), observed, loss_px=0.3, max_iterations=60).structure.cam_from_obj, toy.truth.cam_from_obj
    )
    assert error.rotation_deg < 0.2


def test_finds_the_focal_length():
    toy = make_toy(turn_deg=90, size=1.0, noise_px=0.02)
    start = replace(disturbed(toy.truth), focal_px=FOCAL_PX * 1.2)
    result = adjust(start, everything(toy), loss_px=0.5, max_iterations=100, tolerance=1e-10, free_focal=True)
    assert result.structure.focal_px == pytest.approx(FOCAL_PX, rel=0.01)


def test_a_point_behind_the_camera_has_negative_depth():
    structure = Structure(np.eye(4)[None], np.array([[0.0, 0.0, -1.0]]), FOCAL_PX)
    _, depth = reproject(structure, Observations(np.array([0]), np.array([0]), np.zeros((1, 2))))
    assert depth[0] == -1
