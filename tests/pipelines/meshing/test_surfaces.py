"""Meshes of a scene whose surfaces are known exactly: both ways of making them, cleaning, colours, and reuse."""

import dataclasses

import numpy as np
import pytest

from pipelines.artifacts import Labels
from pipelines.meshing.fusion import Grid
from pipelines.meshing.mesh import Mesh, decimate, smooth, without_small_components
from pipelines.meshing.surfaces import MeshConfig, Surface, object_mesh, seen_columns, seen_maps, viewed_frames
from pipelines.meshing.views import ObjectViews, sampled, silhouette_support
from pipelines.stage import ItemCache, StageContext

CONFIG = MeshConfig(object_cells=48, background_cells=48, max_faces=6000, view_width_px=256)


@pytest.fixture(scope="module")
def maps(toy_scene):
    return toy_scene.alone_maps(width=256, frames=range(toy_scene.n_frames))


def ball_of(n: int = 4, radius: float = 0.5) -> Mesh:
    import trimesh

    ball = trimesh.creation.icosphere(n, radius)
    return Mesh.build(np.array(ball.vertices, float), np.array(ball.faces, int))


@pytest.mark.parametrize("surface", list(Surface))
@pytest.mark.parametrize("column", [1, 2])
def test_movers_lie_on_their_true_surface_with_outward_normals(toy_scene, toy_video, maps, surface, column):
    config = CONFIG.model_copy(update={"objects": surface})
    mesh = object_mesh(config, toy_scene, column, maps, toy_video)
    distance = toy_scene.shapes[column].signed_distance(mesh.vertices.astype(float))
    assert len(mesh.faces) > 1000
    assert np.quantile(np.abs(distance), 0.95) < 0.02
    further = toy_scene.shapes[column].signed_distance(mesh.vertices + 0.02 * mesh.normals)
    assert np.mean(further > distance) > 0.97
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)


def test_density_gives_a_closed_surface_and_fusion_only_what_was_seen(toy_scene, toy_video, maps):
    still = dataclasses.replace(toy_scene, cam_from_obj=toy_scene.cam_from_obj[:, :1], registered=toy_scene.registered[:, :1])
    one_look = still.alone_maps(width=256, frames=[0])
    closed, seen = (
        object_mesh(CONFIG.model_copy(update={"objects": s}), still, 1, one_look, toy_video)
        for s in (Surface.DENSITY, Surface.FUSION)
    )
    cam_from_ball = still.cam_from_obj[1, 0]
    towards = -(cam_from_ball[:3, :3].T @ cam_from_ball[:3, 3])
    behind = [float(np.min(mesh.vertices @ (towards / np.linalg.norm(towards)))) for mesh in (closed, seen)]
    assert behind[0] < -0.45
    assert behind[1] > -0.1


def test_the_room_is_meshed_where_it_was_seen(toy_scene, toy_video, maps):
    mesh = object_mesh(CONFIG, toy_scene, 0, maps, toy_video)
    distance = np.abs(toy_scene.shapes[0].signed_distance(mesh.vertices.astype(float)))
    assert np.quantile(distance, 0.9) < 0.05
    cam_from_world = toy_scene.cam_from_obj[0]
    depth = np.max([(mesh.vertices @ m[2, :3] + m[2, 3]) for m in cam_from_world], axis=0)
    assert depth.min() > 0


def test_colours_are_those_of_the_video(toy_scene, toy_video, maps):
    mesh = object_mesh(CONFIG, toy_scene, 1, maps, toy_video)
    expected = 0.5 + 0.4 * np.sin(4.0 * mesh.vertices + np.array([0.0, 1.0, 2.0]))
    assert np.quantile(np.abs(mesh.rgb / 255 - expected).max(1), 0.9) < 0.06


def test_what_lies_outside_the_masks_is_cut_away(maps):
    views = ObjectViews.of_column(maps, 1, min_opacity=0.5)
    on_object, on_background = silhouette_support(np.array([[0.0, 0, 0], [0.0, 0.8, 0]]), views, margin_px=0)
    assert on_object.tolist() == [8, 0]
    assert on_background.tolist() == [0, 8]
    _, in_front_of_it = silhouette_support(np.array([[0.0, 0.8, 0]]), views, margin_px=0, largest_scale=10.0)
    assert in_front_of_it.tolist() == [0]


@pytest.mark.parametrize("surface", list(Surface))
def test_what_a_pillar_hides_for_most_of_the_clip_stays(toy_scene, toy_video, maps, surface):
    """The ball's left half is behind background in seven of eight frames: the masks there speak for the pillar alone."""
    xy_ball = (maps.intrinsics @ maps.cam_from_obj[1][:, :3, 3:])[..., 0]
    left = np.arange(maps.column.shape[2]) < (xy_ball[:, 0] / xy_ball[:, 2])[:, None, None]
    hidden = left & (maps.column == 1) & (np.arange(8) != 4)[:, None, None]
    column, depth = np.where(hidden, 0, maps.column).astype(np.uint8), maps.depth.copy()
    depth[:, 0] = np.where(hidden, 1.0, depth[:, 0])
    config = CONFIG.model_copy(update={"objects": surface})
    whole, behind = (
        object_mesh(config, toy_scene, 1, seen, toy_video)
        for seen in (maps, dataclasses.replace(maps, column=column, depth=depth))
    )
    reach = [float((-mesh.vertices @ maps.cam_from_obj[1, 4, 0, :3]).max()) for mesh in (whole, behind)]
    assert reach[1] > 0.9 * reach[0]


def test_pixel_values_are_read_at_their_centres():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert sampled(image, np.array([[0.5, 0.5], [3.5, 2.5], [1.0, 0.5]])).tolist() == [0.0, 11.0, 0.5]
    assert len(sampled(image, np.zeros((0, 2)))) == 0


def test_small_parts_are_dropped_and_the_rest_kept():
    large, small = ball_of(3), ball_of(2, 0.05)
    both = Mesh.build(
        np.concatenate([large.vertices, small.vertices + 2]), np.concatenate([large.faces, small.faces + len(large.vertices)])
    )
    assert len(without_small_components(both, 0.05).faces) == len(large.faces)
    assert len(without_small_components(both, 0.001).faces) == len(both.faces)


def test_decimation_and_smoothing_keep_the_shape():
    ball = ball_of(5)
    fewer = decimate(ball, 1000)
    assert len(fewer.faces) <= 1000
    assert np.abs(np.linalg.norm(fewer.vertices, axis=1) - 0.5).max() < 0.01
    assert np.abs(np.linalg.norm(smooth(ball, 4).vertices, axis=1) - 0.5).max() < 0.005


def test_a_rectilinear_grid_covers_far_points_with_growing_cells():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-1, 1, (5000, 3)), [[30.0, 0, 0]] * 20])
    grid = Grid.covering(points, 32)
    assert grid.axes[0][-1] > 30 and grid.axes[0][0] < -1 and grid.axes[1][-1] < 3
    for axis in grid.axes:
        assert np.all(np.diff(axis) > 0)
    steps = np.diff(grid.axes[0])
    assert steps[-1] > 5 * steps[len(steps) // 4]
    beyond = np.concatenate([points, [[1e6, 0, 0]] * 20])
    assert Grid.covering(beyond, 32).axes[0][-1] < 60
    assert np.allclose(grid.at(np.array([[1.5, 0.0, 2.0]]))[0, 0], (grid.axes[0][1] + grid.axes[0][2]) / 2)


def test_an_object_that_nobody_saw_has_an_empty_mesh(toy_scene, toy_video, maps):
    unseen = dataclasses.replace(maps, column=np.zeros_like(maps.column))
    for surface in Surface:
        config = CONFIG.model_copy(update={"objects": surface})
        assert len(object_mesh(config, toy_scene, 1, unseen, toy_video).faces) == 0


def test_frames_are_spread_over_the_registered_ones(toy_scene):
    registered = toy_scene.registered.copy()
    registered[0, 7] = False
    assert viewed_frames(dataclasses.replace(toy_scene, registered=registered), 3) == [0, 3, 6]


def test_meshes_are_made_once_and_again_when_the_scene_or_an_option_changes(
    toy_scene, toy_video, toy_labels, tmp_path, monkeypatch
):
    import pipelines.meshing.surfaces as surfaces

    made = []
    monkeypatch.setattr(surfaces, "object_mesh", lambda config, scene, column, *_, **__: made.append(column) or ball_of(2))

    def run(scene, config) -> list[int]:
        made.clear()
        context = StageContext(tmp_path / "out", ItemCache(tmp_path / "items"))
        surfaces.scene_meshes(config, scene=scene, labels=toy_labels, video=toy_video, context=context)
        return list(made)

    assert run(toy_scene, CONFIG) == [0, 1, 2]
    assert run(toy_scene, CONFIG) == []
    shapes = (*toy_scene.shapes[:2], type(toy_scene.shapes[2])((0.4, 0.45, 0.3)))
    assert run(dataclasses.replace(toy_scene, shapes=shapes), CONFIG) == [2]
    assert run(toy_scene, CONFIG.model_copy(update={"max_faces": 500})) == [0, 1, 2]


def test_labels_become_columns_at_their_pixel_centres(toy_scene):
    maps = np.zeros((2, 4, 4), np.uint8)
    maps[1, :2, 2:] = 3
    maps[1, 2:, :2] = 2
    columns = seen_columns(toy_scene, Labels(maps, ("background", "ball", "lost", "box")), [1], 2, 2)
    assert columns.tolist() == [[[0, 2], [255, 0]]]


def test_objects_are_rendered_on_their_own_pixels_only(toy_scene, toy_labels):
    maps = seen_maps(toy_scene, toy_labels, [2, 5], 128)
    for column, label in ((0, 0), (1, 1), (2, 3)):
        assert np.array_equal(np.isfinite(maps.depth[:, column]), toy_labels.maps[[2, 5]] == label)
