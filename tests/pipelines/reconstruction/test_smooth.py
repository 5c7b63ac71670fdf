"""The motion prior: its derivatives, what it leaves alone, what it mends, and what it learns."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.evaluation.poses import pose_error
from pipelines.geometry import rigid, rotation_angle_deg
from pipelines.reconstruction import motion_prior
from pipelines.reconstruction.bundle import adjust, exp_rotation, reproject
from pipelines.reconstruction.grow import FINAL, Grown, GrowOptions, finish
from pipelines.reconstruction.motion_prior import MAX_GAP_FRAMES, Motion, MotionPrior
from pipelines.reconstruction.sightings import Sightings
from pipelines.reconstruction.smooth import background_axes, smoothed

from .conftest import FOCAL_PX, Toy, make_toy

OPTIONS = GrowOptions(loss_px=0.5, max_error_px=3.0, min_frame_points=4)


def identities(n: int) -> np.ndarray:
    return np.tile(np.eye(3), (n, 1, 1))


def solved(toy: Toy, sightings: Sightings) -> Grown:
    grown = finish(sightings, toy.truth, np.ones(sightings.n_frames, bool), OPTIONS, FINAL)
    assert grown is not None
    return grown


def test_gradient_is_the_costs_difference(monkeypatch: pytest.MonkeyPatch):
    # The median depth is a unit, not an unknown.
    monkeypatch.setattr(motion_prior, "_depth", lambda cam: 4.0)
    rng = np.random.default_rng(0)
    frames = np.array([0, 1, 3, 4, 6])
    camera = Rotation.from_rotvec(rng.normal(size=(7, 3)) * 0.3).as_matrix()
    rotation = Rotation.from_rotvec(np.cumsum(rng.normal(size=(5, 3)) * 0.2, 0)).as_matrix()
    tau = np.array([0.0, 0.0, 4.0]) + rng.normal(size=(5, 3)) * 0.05
    prior = MotionPrior(camera, 0.02, 0.01, 0.3)
    centre = np.array([0.1, -0.2, 0.15])
    matrix, gradient = prior.linearise(Motion(frames, rotation, tau, centre))
    assert np.linalg.eigvalsh(matrix).min() > -1e-6 * np.linalg.eigvalsh(matrix).max()
    step = 1e-6
    for index in range(30):
        costs = []
        for sign in (1, -1):
            moved = np.zeros((5, 6))
            moved.flat[index] = sign * step
            costs.append(prior.cost(Motion(frames, exp_rotation(moved[:, :3]) @ rotation, tau + moved[:, 3:], centre)))
        assert gradient[index] == pytest.approx((costs[0] - costs[1]) / (2 * step), rel=1e-4, abs=1e-4)


def test_steady_motion_costs_nothing_in_the_axes_of_a_shaking_camera():
    n = 9
    frames = np.array([0, 1, 2, 3, 5, 6, 8])
    rng = np.random.default_rng(1)
    cam_from_world = Rotation.from_rotvec(rng.normal(size=(n, 3)) * 0.1).as_matrix()
    turning = Rotation.from_rotvec(np.arange(n)[:, None] * [0.02, 0.1, -0.05]).as_matrix()
    place = np.array([0.1, 0.2, 3.0]) + np.arange(n)[:, None] * [0.05, -0.02, 0.01]
    rotation, tau = cam_from_world @ turning, np.einsum("tij,tj->ti", cam_from_world, place)
    steady = MotionPrior(np.swapaxes(cam_from_world, 1, 2), 1e-3, 1e-3, 1.0)
    motion = Motion(frames, rotation[frames], tau[frames], np.zeros(3))
    assert steady.cost(motion) < 1e-12
    shaken = MotionPrior(identities(n), 1e-3, 1e-3, 1.0)
    assert shaken.cost(motion) > 1.0


def test_the_objects_unit_does_not_matter():
    toy = make_toy()
    frames = np.arange(toy.sightings.n_frames)
    rotation, tau = toy.truth.cam_from_obj[:, :3, :3], toy.truth.cam_from_obj[:, :3, 3]
    centre = np.array([0.1, 0.2, 0.3])
    costs = [
        MotionPrior(identities(len(frames)), 1e-3, 1e-3, 1.0).cost(Motion(frames, rotation, unit * tau, unit * centre))
        for unit in (1.0, 7.0)
    ]
    assert costs[0] == pytest.approx(costs[1])


def test_nothing_is_assumed_across_long_gaps():
    prior = MotionPrior(identities(20), 1.0, 1.0, 1.0)
    frames = np.array([0, 1, 2, 3 + MAX_GAP_FRAMES, 4 + MAX_GAP_FRAMES])
    assert len(prior.accelerations(Motion(frames, identities(5), np.ones((5, 3)), np.zeros(3)))) == 1


def test_a_hardly_seen_frame_follows_its_neighbours():
    toy = make_toy(turn_deg=40, noise_px=0.04)
    xy_px = toy.sightings.xy_px.copy()
    # In the last three frames only a small patch of one face is left, and it is seen badly.
    points = toy.truth.points
    patch = np.argsort(np.linalg.norm(points - points[np.isfinite(xy_px[-3:, :, 0]).all(0)][0], axis=1))[:6]
    gone = np.setdiff1d(np.arange(len(points)), patch)
    xy_px[-3:, gone] = np.nan
    xy_px[-3:] += np.random.default_rng(5).normal(size=xy_px[-3:].shape) * 0.3
    sightings = Sightings(xy_px)
    alone = solved(toy, sightings)
    together, prior = smoothed(sightings, alone, identities(sightings.n_frames), OPTIONS, FINAL)
    assert prior is not None

    def worst(grown: Grown) -> float:
        rotation = grown.structure.cam_from_obj[:, :3, :3]
        true = toy.truth.cam_from_obj[:, :3, :3]
        aligned = rotation[0].T @ true[0]
        return float(rotation_angle_deg(np.swapaxes(rotation[-3:] @ aligned, 1, 2) @ true[-3:]).max())

    assert worst(together) < 0.5 * worst(alone)


def jerky(noise_px: float) -> Toy:
    """An object whose turns are drawn anew in every frame, seen well."""
    toy = make_toy(n_frames=20, noise_px=0.0)
    rng = np.random.default_rng(3)
    turn = Rotation.from_rotvec(np.cumsum(rng.normal(size=(20, 3)) * 0.06, 0)).as_matrix()
    poses = rigid(turn, toy.truth.cam_from_obj[:, :3, 3])
    cam = np.einsum("tij,pj->tpi", poses[:, :3, :3], toy.truth.points) + poses[:, None, :3, 3]
    xy_px = FOCAL_PX * cam[..., :2] / cam[..., 2:] + rng.normal(size=(20, len(toy.truth.points), 2)) * noise_px
    return Toy(type(toy.truth)(poses, toy.truth.points, FOCAL_PX), Sightings(xy_px))


def test_a_jerky_motion_is_learned_to_be_jerky_and_left_alone():
    toy = jerky(0.1)
    alone = solved(toy, toy.sightings)
    together, prior = smoothed(toy.sightings, alone, identities(20), OPTIONS, FINAL)
    assert prior is not None
    # Consecutive rates are independent: their difference has a deviation of 0.06 times the root of 2.
    assert prior.turn_deviation == pytest.approx(0.085, rel=0.4)
    errors = [pose_error(grown.structure.cam_from_obj, toy.truth.cam_from_obj).rotation_deg for grown in (alone, together)]
    # Noise is believed to be correlated, here it isn't: a little is smoothed, of turns of 6 deg from frame to frame.
    assert errors[1] < errors[0] + 0.3


def test_a_gliding_motion_is_learned_to_glide():
    toy = make_toy(n_frames=20, noise_px=0.2)
    _, prior = smoothed(toy.sightings, solved(toy, toy.sightings), identities(20), OPTIONS, FINAL)
    assert prior is not None
    assert prior.turn_deviation < 0.005


def test_too_few_frames_are_left_as_they_are():
    toy = make_toy(n_frames=4)
    grown = solved(toy, toy.sightings)
    same, prior = smoothed(toy.sightings, grown, identities(4), OPTIONS, FINAL)
    assert prior is None and same is grown


def test_half_a_turn_between_frames_has_a_derivative():
    half = Rotation.from_rotvec([[0, 0, 0], [0, np.pi - 1e-9, 0], [0, 0, 0]]).as_matrix()
    motion = Motion(np.arange(3), half, np.tile([0.0, 0.0, 3.0], (3, 1)), np.zeros(3))
    matrix, gradient = MotionPrior(identities(3), 0.1, 0.1, 1.0).linearise(motion)
    assert np.isfinite(matrix).all() and np.isfinite(gradient).all()
    assert np.abs(matrix).max() < 1e6


def test_the_prior_gives_no_reason_to_shrink():
    toy = make_toy(noise_px=0.2)
    grown = solved(toy, toy.sightings)
    # A prior learned in another gauge: the object's points are far from where they were then.
    shift = np.array([3.0, -2.0, 1.0])
    poses = grown.structure.cam_from_obj.copy()
    poses[:, :3, 3] -= poses[:, :3, :3] @ shift
    moved = replace(grown.structure, cam_from_obj=poses, points=grown.structure.points + shift)
    prior = MotionPrior(identities(toy.sightings.n_frames), 1e-3, 1e-3, 2.0)
    observed = toy.sightings.observations(grown.registered, grown.placed)
    adjusted = adjust(moved, observed, loss_px=0.5, prior=prior, max_iterations=60)
    _, depth = reproject(adjusted.structure, observed)
    assert 1.0 < np.median(depth) < 16.0


def test_axes_between_registered_frames_are_interpolated():
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.arange(5)[:, None] * [0, 0.2, 0]).as_matrix()
    registered = np.array([False, True, False, True, False])
    axes = background_axes(poses, registered)
    np.testing.assert_allclose(axes[2], poses[2, :3, :3].T, atol=1e-9)
    np.testing.assert_allclose(axes[0], poses[1, :3, :3].T, atol=1e-9)
    np.testing.assert_allclose(axes[4], poses[3, :3, :3].T, atol=1e-9)
    np.testing.assert_allclose(background_axes(poses, np.zeros(5, bool)), identities(5))
