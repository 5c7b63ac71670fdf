"""Where things are in the exported world: the convention of axes, and quaternions that can be interpolated."""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from pipelines.formats.placement import (
    GL_FROM_CV_CAMERA,
    continuous_quaternions,
    in_between,
    nearest_registered,
    place,
    upright_from_world,
)
from pipelines.geometry import rigid


def test_a_camera_that_looks_along_z_with_y_down_turns_into_gltf_axes_by_flipping_y_and_z():
    upright = upright_from_world(np.eye(4)[None])
    assert np.allclose(upright, np.diag([1.0, -1.0, -1.0]))


def test_upright_is_a_rotation_also_when_the_cameras_disagree_completely():
    opposed = np.stack([np.eye(4), rigid(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))])
    for cams in (opposed, rigid(Rotation.random(20, random_state=1).as_matrix(), np.zeros((20, 3)))):
        upright = upright_from_world(cams)
        assert np.allclose(upright @ upright.T, np.eye(3))
        assert np.isclose(np.linalg.det(upright), 1.0)


def test_quaternions_of_several_full_turns_never_jump():
    angles = np.linspace(0, 4.2 * np.pi, 60)
    rotation = Rotation.from_rotvec(angles[:, None] * np.array([0.6, 0.0, 0.8])).as_matrix()
    quaternions = continuous_quaternions(rotation)
    assert np.allclose(np.linalg.norm(quaternions, axis=1), 1.0)
    assert (quaternions[1:] * quaternions[:-1]).sum(1).min() > 0.99
    assert np.allclose(Rotation.from_quat(quaternions).as_matrix(), rotation)


def test_frames_without_registration_hold_the_nearest_pose():
    registered = np.array([False, True, False, False, True, False])
    assert nearest_registered(registered).tolist() == [1, 1, 1, 4, 4, 4]
    assert nearest_registered(np.zeros(3, bool)).tolist() == [0, 1, 2]


def test_every_object_is_seen_by_the_placed_camera_where_the_filming_camera_saw_it(toy_scene):
    """Camera-space points through the exported world equal `s (R X + tau)`, in OpenGL axes and the chosen unit."""
    scale, unit = np.array([1.0, 1.7, 0.6]), 0.25
    placement = place(toy_scene, scale, unit=unit)
    points = np.random.default_rng(0).normal(size=(5, 3))
    camera = Rotation.from_quat(placement.camera_quaternion)
    for column, s in enumerate(scale):
        for t in range(toy_scene.n_frames):
            placed = Rotation.from_quat(placement.quaternion[column, t]).apply(points) * placement.scale[column]
            in_world = placed + placement.translation[column, t]
            in_camera = camera[t].inv().apply(in_world - placement.camera_translation[t])
            cam_from_obj = toy_scene.cam_from_obj[column, t]
            expected = unit * s * (points @ cam_from_obj[:3, :3].T + cam_from_obj[:3, 3])
            assert np.allclose(in_camera @ GL_FROM_CV_CAMERA[:3, :3], expected)


def test_an_object_is_visible_where_it_and_the_camera_registered(toy_scene):
    registered = toy_scene.registered.copy()
    registered[0, 2] = registered[1, 5] = False
    placement = place(dataclasses.replace(toy_scene, registered=registered), np.ones(3))
    assert np.flatnonzero(~placement.visible[1]).tolist() == [2, 5]
    assert np.flatnonzero(~placement.visible[2]).tolist() == [2]


def test_a_lost_camera_turns_and_moves_evenly_between_its_neighbours_and_stands_still_at_the_ends():
    """Registered in frames 1 and 4: a quarter turn about y, three units along x."""
    turned = Rotation.from_euler("y", [[0.0], [90.0]], degrees=True).as_matrix()
    world_from_cam = np.tile(np.eye(4), (6, 1, 1))
    world_from_cam[[1, 4]] = rigid(turned, np.array([[0.0, 0, 0], [3.0, 0, 0]]))
    registered = np.array([False, True, False, False, True, False])
    filled = in_between(world_from_cam, registered)
    assert np.allclose(filled[:, :3, 3], [[0, 0, 0], [0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [3, 0, 0]])
    assert np.allclose(Rotation.from_matrix(filled[:, :3, :3]).magnitude(), np.radians([0, 0, 30, 60, 90, 90]))
    assert np.array_equal(filled[registered], world_from_cam[registered])
    once = in_between(world_from_cam, np.arange(6) == 4)
    assert np.array_equal(once, np.tile(world_from_cam[4], (6, 1, 1)))


def test_a_placed_camera_does_not_jump_where_it_is_lost(toy_scene):
    registered = toy_scene.registered.copy()
    registered[0, 2:5] = False
    lost = place(dataclasses.replace(toy_scene, registered=registered), np.ones(3))
    steps = np.linalg.norm(np.diff(lost.camera_translation, axis=0), axis=1)
    assert steps.max() < 1.1 * steps.min()
    assert not lost.visible[:, 2:5].any()
