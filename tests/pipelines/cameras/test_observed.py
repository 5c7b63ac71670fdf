"""What was seen while filming: compared with the toy scene's exact occlusion."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.cameras.observed import SeenBackground, hatched, seen_points
from pipelines.geometry import turned_about_pivot


@pytest.fixture(scope="module")
def seen(toy_scene) -> SeenBackground:
    return SeenBackground.of_scene(toy_scene, n_views=8, width_px=128, depth_tolerance=0.05, min_opacity=0.5)


def test_points_of_the_far_wall_are_seen_where_the_camera_looked_and_only_there(seen):
    wall = np.array([[0.0, -1.0, 4.0], [3.0, 0.0, -1.0], [0.0, -1.0, -4.0], [0.0, -1.0, 2.0]])
    assert seen_points(wall, seen.views, depth_tolerance=0.05).tolist() == [True, False, False, False]


def test_a_wider_view_shows_unseen_walls_at_its_border_only(toy_scene, seen):
    filmed = toy_scene.cam_from_obj[0, 4]
    wide = toy_scene.intrinsics * np.array([[0.4, 1, 1], [1, 0.4, 1], [1, 1, 1]])
    view = toy_scene.render(t=4, scale=np.ones(3), view_from_world=filmed, intrinsics=wide)
    unseen = seen.unseen(view, view_from_world=filmed, intrinsics=wide)
    assert unseen[:, :20].all() and unseen[:15].all()
    assert not unseen[40:56, 50:78].any()
    assert not unseen[view.label != 0].any()


def test_the_filmed_view_itself_is_all_seen(toy_scene, seen):
    moved = turned_about_pivot(4.0, 0.5, 0.0) @ toy_scene.cam_from_obj[0, 4]
    view = toy_scene.render(t=4, scale=np.ones(3), view_from_world=moved)
    unseen = seen.unseen(view, view_from_world=moved, intrinsics=toy_scene.intrinsics)
    assert unseen.mean() < 0.01


def test_empty_pixels_are_marked(seen):
    nothing = np.zeros((24, 32), np.float32)
    view = SimpleNamespace(rgb=np.zeros((24, 32, 3)), depth=nothing, label=np.full((24, 32), 255, np.uint8), opacity=nothing)
    assert seen.unseen(view, view_from_world=np.eye(4), intrinsics=np.diag([30.0, 30.0, 1.0])).all()


def test_hatching_changes_marked_pixels_only():
    rgb = np.full((20, 130, 3), 0.3, np.float32)
    where = np.zeros((20, 130), bool)
    where[5:15, 10:100] = True
    marked = hatched(rgb, where)
    assert np.all(marked[~where] == np.float32(0.3))
    assert len(np.unique(marked[where])) == 2
