import numpy as np
import torch

from pipelines.geometry import invert, ray_directions, rigid, transform
from pipelines.scene.contraction import Box
from pipelines.scene.occupancy import DensityCache
from pipelines.scene.rays import MAX_PROPOSED, Rays, camera_directions, object_rays, proposed_weights, resampled, span, widened

BOX = Box(torch.zeros(3), torch.ones(3))


def test_directions_agree_with_the_numpy_geometry() -> None:
    intrinsics = np.array([[100.0, 2.0, 32.0], [0.0, 90.0, 24.0], [0.0, 0.0, 1.0]])
    xy_px = np.array([[0.5, 0.5], [31.0, 7.25], [63.5, 47.5]])
    found = camera_directions(torch.tensor(intrinsics), torch.tensor(xy_px))
    torch.testing.assert_close(found.numpy(), ray_directions(intrinsics, xy_px))


def test_the_ray_parameter_is_depth() -> None:
    angle = 0.7
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    cam_from_obj = rigid(rotation, np.array([0.3, -0.2, 4.0]))
    directions = np.array([[0.1, -0.3, 1.0], [0.0, 0.0, 1.0]])
    rays = object_rays(torch.tensor(cam_from_obj).expand(2, 4, 4), torch.tensor(directions))
    points = rays.points(torch.tensor([[2.0], [5.0]]))[:, 0].numpy()
    expected = transform(invert(cam_from_obj), directions * np.array([[2.0], [5.0]]))
    np.testing.assert_allclose(points, expected, atol=1e-12)


def test_even_weights_give_even_intervals_that_cover_the_ray() -> None:
    edges = resampled(torch.ones(1, 8), 4, 0.1, None)
    torch.testing.assert_close(edges, torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]]))


def test_samples_gather_where_the_weight_is_and_keep_their_order() -> None:
    weights = torch.zeros(50, 20)
    weights[:, 12] = 1.0
    edges = resampled(weights, 16, 0.1, torch.Generator().manual_seed(0))
    assert bool((edges.diff(dim=1) >= 0).all())
    middles = 0.5 * (edges[:, 1:] + edges[:, :-1])
    inside = ((middles >= 0.6) & (middles <= 0.65)).sum(1)
    assert int(inside.min()) >= 12


def test_widening_keeps_the_neighbours_of_a_surface() -> None:
    torch.testing.assert_close(widened(torch.tensor([[0.0, 0.0, 1.0, 0.0]])), torch.tensor([[0.0, 0.5, 1.0, 0.5]]))


def test_unbounded_spans_go_on_far_beyond_the_box() -> None:
    room = Box(torch.zeros(3), torch.ones(3), share=0.75)
    rays = Rays(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]))
    depth = span(room, rays, 0.1).depth(torch.linspace(0, 1, 101)[None])
    assert float(depth[0, 0]) == np.float32(0.1)
    assert bool((depth.diff(dim=1) > 0).all())
    torch.testing.assert_close(depth[0, [85, 100]], torch.tensor([1.0, 10.0]), rtol=1e-3, atol=0)


def test_a_wall_in_the_cache_is_where_the_proposal_peaks() -> None:
    cache = DensityCache(20, start=0.0)
    cells = cache.cells(torch.cartesian_prod(torch.linspace(-1, 1, 20), torch.linspace(-1, 1, 20), torch.tensor([0.52])))
    cache.density[cells] = 1000.0
    rays = Rays(torch.tensor([[0.01, 0.01, -2.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
    edges = torch.linspace(1, 3, 41)[None]
    weights, opacity = proposed_weights(cache, BOX, rays, edges)
    peak = int(weights.argmax())
    assert 2.5 <= float(edges[0, peak]) <= 2.6
    # It is two bins thick.
    np.testing.assert_allclose(float(opacity), 1 - np.exp(-2 * MAX_PROPOSED), rtol=1e-5)


def test_rays_that_miss_the_box_do_not_hit() -> None:
    rays = Rays(torch.tensor([[0.0, 0.0, -3.0], [5.0, 0.0, -3.0]]), torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    assert span(BOX, rays, 0.1).hits.tolist() == [True, False]
