import numpy as np
from scipy.spatial.transform import Rotation

from pipelines.formats.placement import place
from pipelines.geometry import project
from pipelines.viewer.stage_set import StageSet


def rotation(wxyz: np.ndarray) -> np.ndarray:
    return Rotation.from_quat(np.roll(wxyz, -1)).as_matrix()


def test_poses_are_those_of_a_placement_at_the_same_scales(toy_scene):
    scale = np.array([1.0, 0.6, 1.7])
    expected = place(toy_scene, scale)
    stage = StageSet(toy_scene)
    for column in range(3):
        for t in (0, 5):
            pose = stage.pose(column, t, float(scale[column]))
            np.testing.assert_allclose(pose.position, expected.translation[column, t], atol=1e-9)
            np.testing.assert_allclose(rotation(pose.wxyz), expected.rotation(column, t), atol=1e-9)


def test_the_filming_camera_sees_a_point_where_the_video_shows_it(toy_scene):
    stage, t, point = StageSet(toy_scene), 3, np.array([0.2, -0.1, 0.3])
    pose, camera = stage.pose(1, t, 1.4), stage.camera(t)
    in_world = pose.scale * rotation(pose.wxyz) @ point + pose.position
    in_camera = rotation(camera.wxyz).T @ (in_world - camera.position)
    filmed = toy_scene.cam_from_obj[1, t]
    expected = project(toy_scene.intrinsics, filmed[:3, :3] @ point + filmed[:3, 3])
    np.testing.assert_allclose(project(toy_scene.intrinsics, in_camera), expected, atol=1e-6)
