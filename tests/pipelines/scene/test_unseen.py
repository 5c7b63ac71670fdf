import numpy as np
import torch

from pipelines.geometry import pixel_centres
from pipelines.scene.unseen import UnseenRays, filled, unseen_rays

INTRINSICS = np.array([[48.0, 0.0, 24.0], [0.0, 48.0, 18.0], [0.0, 0.0, 1.0]])


def wall(n_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, depth and poses of a static camera before a wall at depth 4."""
    return np.zeros((n_frames, 36, 48), np.uint8), np.full((n_frames, 36, 48), 4.0), np.tile(np.eye(4), (n_frames, 1, 1))


def rays_of(column: np.ndarray, depth: np.ndarray, cam_from_world: np.ndarray) -> UnseenRays:
    return unseen_rays(column, depth, INTRINSICS, cam_from_world, np.ones(len(column), bool))


def ends(rays: UnseenRays) -> torch.Tensor:
    return rays.origins + rays.depth[:, None] * rays.directions


def test_a_wall_goes_on_where_an_object_hides_it_and_outside_the_picture() -> None:
    column, depth, cam_from_world = wall(3)
    column[:, 12:24, 16:32] = 1
    depth[:, 12:24, 16:32] = 2.0
    rays = rays_of(column, depth, cam_from_world)
    at = ends(rays)
    behind = (at[:, 0].abs() < 0.4) & (at[:, 1].abs() < 0.3) & (rays.origins.abs().sum(1) == 0)
    assert int(behind.sum()) > 20
    np.testing.assert_allclose(at[behind, 2], 4.0, rtol=1e-4)
    assert bool((at[:, 0].abs() > 2.2).any()), "nothing beyond the picture's border"


def test_what_another_frame_shows_is_not_guessed() -> None:
    """The object stands elsewhere in the second frame: together the frames show the whole wall."""
    column, depth, cam_from_world = wall(2)
    column[0, 12:24, 6:18] = 1
    column[1, 12:24, 30:42] = 1
    filmed = ends(rays_of(column, depth, cam_from_world))
    inside = (filmed[:, 0].abs() < 1.5) & (filmed[:, 1].abs() < 1.0)
    assert not bool(inside.any())


def test_no_background_gives_no_rays() -> None:
    column, depth, cam_from_world = wall(2)
    assert len(rays_of(column + 1, depth, cam_from_world)) == 0
    assert len(unseen_rays(column, depth, INTRINSICS, cam_from_world, np.zeros(2, bool))) == 0


def test_holes_in_a_plane_are_filled_exactly() -> None:
    depth = 1 / (0.2 + 0.002 * pixel_centres(20, 8)[..., 0])
    hole = depth.copy()
    hole[3:6, 5:8] = np.inf
    hole[:, 17:] = np.inf
    result = filled(hole)
    np.testing.assert_allclose(result[:, :17], depth[:, :17])
    np.testing.assert_allclose(
        result[:3, 17:], depth[:3, 8:9].repeat(3, 1)
    )  # the median of the known 17 columns is deeper than the last


def test_behind_the_edge_of_a_near_surface_the_far_one_goes_on() -> None:
    depth = np.full((6, 12), 8.0)
    depth[:, :4] = 2.0
    depth[:, 4:8] = np.inf
    depth[0] = np.inf
    result = filled(depth)
    assert (result[:, 4:] == 8.0).all()
    assert (result[:, :4] == 2.0).all()
