"""Compositing against a slow obvious reference: move every sample to world depth, sort, and accumulate front to back."""

import math

import pytest
import torch
from torch import Tensor

from pipelines.scene.compositing import RaySamples, alone, composite, opacity_of, sample_weights, soft_zbuffer, surface_depth


def some_samples(n_rays: int = 7, n_objects: int = 3, n_samples: int = 9, seed: int = 0) -> RaySamples:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    depth = (1 + 3 * random(n_rays, n_objects, n_samples)).sort(-1).values
    tau = torch.where(random(n_rays, n_objects, n_samples) < 0.3, 2 * random(n_rays, n_objects, n_samples), 0.0)
    return RaySamples(depth, tau, random(n_rays, n_objects, n_samples, 3))


def sorted_reference(samples: RaySamples, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Colour, depth and per-object weights of one combination, ray by ray, sample by sample."""
    n_rays, n_objects, n_samples = samples.depth.shape
    rgb, depth, weights = torch.zeros(n_rays, 3), torch.zeros(n_rays), torch.zeros(n_rays, n_objects)
    rgb, depth, weights = rgb.double(), depth.double(), weights.double()
    for r in range(n_rays):
        found = [(float(scale[k] * samples.depth[r, k, i]), k, i) for k in range(n_objects) for i in range(n_samples)]
        transmittance = 1.0
        for world_depth, k, i in sorted(found):
            weight = transmittance * (1 - math.exp(-float(samples.tau[r, k, i])))
            rgb[r] += weight * samples.rgb[r, k, i]
            depth[r] += weight * world_depth
            weights[r, k] += weight
            transmittance *= math.exp(-float(samples.tau[r, k, i]))
    return rgb, depth, weights


def test_many_combinations_from_one_query_equal_separate_sorted_renderings() -> None:
    samples = some_samples()
    scales = torch.exp(torch.randn(16, 3, generator=torch.Generator().manual_seed(1)).double() * 0.5)
    scales[:, 0] = 1.0
    together = composite(samples, scales)
    for h, scale in enumerate(scales):
        rgb, depth, weights = sorted_reference(samples, scale)
        torch.testing.assert_close(together.rgb[h], rgb, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.depth[h], depth, atol=1e-5, rtol=1e-6)
        torch.testing.assert_close(together.weights[h], weights, atol=1e-5, rtol=0)


def test_objects_at_equal_depth_are_ordered_by_column() -> None:
    depth = torch.full((1, 2, 1), 2.0)
    samples = RaySamples(depth, torch.full((1, 2, 1), math.log(2)), torch.zeros(1, 2, 1, 3))
    torch.testing.assert_close(composite(samples, torch.ones(1, 2)).weights[0, 0], torch.tensor([0.5, 0.25]))


def test_two_surfaces_change_places_with_the_scale() -> None:
    """Object 1 at own depth 2 stands before the background at 3 for s < 1.5 and behind it for s > 1.5."""
    depth = torch.tensor([[[3.0], [2.0]]])
    rgb = torch.tensor([[[[1.0, 0, 0]], [[0, 1.0, 0]]]])
    samples = RaySamples(depth, torch.full((1, 2, 1), 50.0), rgb)
    image = composite(samples, torch.tensor([[1.0, 1.4], [1.0, 1.6]]))
    torch.testing.assert_close(image.rgb[:, 0], torch.tensor([[0.0, 1, 0], [1.0, 0, 0]]))
    torch.testing.assert_close(image.depth[:, 0], torch.tensor([2.8, 3.0]))
    torch.testing.assert_close(image.opacity, torch.ones(2, 1))


def test_a_scale_does_not_change_the_opacity_of_an_object() -> None:
    samples = some_samples()
    lonely = RaySamples(samples.depth, samples.tau * torch.tensor([0.0, 1.0, 0.0])[:, None], samples.rgb)
    image = composite(lonely, torch.tensor([[1.0, 0.1, 1.0], [1.0, 10.0, 1.0]]).double())
    torch.testing.assert_close(image.weights[0], image.weights[1])
    torch.testing.assert_close(image.weights[0, :, 1], alone(lonely).opacity[:, 1])
    torch.testing.assert_close(image.depth[1], 100 * image.depth[0])


def test_weights_under_any_combination_are_at_most_those_alone() -> None:
    samples = some_samples()
    weights = sample_weights(samples, torch.tensor([[1.0, 0.5, 2.0], [1.0, 2.0, 0.3]]).double())
    assert bool((weights <= samples.own_weights() + 1e-12).all())


def test_compression_to_the_samples_that_matter_changes_nothing() -> None:
    samples = some_samples()
    hit = int((samples.tau > 0).sum(-1).max())
    scales = torch.tensor([[1.0, 0.7, 1.3]]).double()
    whole, compressed = composite(samples, scales), composite(samples.compressed(hit), scales)
    assert samples.compressed(hit).depth.shape[-1] == hit
    torch.testing.assert_close(whole.rgb, compressed.rgb, atol=1e-9, rtol=0)
    torch.testing.assert_close(whole.weights, compressed.weights, atol=1e-9, rtol=0)


@pytest.mark.parametrize("tau", [0.0, 1e-10, 1.0, 80.0, 1e4, 1e10])
def test_gradients_are_finite_for_any_density(tau: float) -> None:
    samples = some_samples(n_rays=3)
    thickness = torch.full_like(samples.tau, tau).requires_grad_()
    image = composite(RaySamples(samples.depth, thickness, samples.rgb), torch.tensor([[1.0, 0.7, 1.3]]).double())
    (image.rgb.sum() + image.depth.sum() + torch.log(image.weights.clamp_min(1e-4)).sum()).backward()
    assert thickness.grad is not None
    assert bool(torch.isfinite(thickness.grad).all())
    assert bool(torch.isfinite(image.rgb).all())


def test_gradients_agree_with_finite_differences() -> None:
    samples = some_samples(n_rays=2, n_samples=4)
    scales = torch.tensor([[1.0, 0.7, 1.3], [1.0, 1.9, 0.4]]).double()

    def image(tau: Tensor, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        made = composite(RaySamples(samples.depth, tau, rgb), scales)
        return made.rgb, made.depth, made.weights

    tau = (samples.tau + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(image, (tau, samples.rgb.clone().requires_grad_()))


def test_opacity_of_a_thin_sample_is_its_thickness() -> None:
    torch.testing.assert_close(opacity_of(torch.tensor([1e-8])), torch.tensor([1e-8]))


def test_soft_zbuffer_is_the_formula_and_survives_large_depths() -> None:
    depth, opacity = torch.tensor([[3.0, 2.0, 7.0]]).double(), torch.tensor([[1.0, 0.5, 0.0]]).double()
    scales = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 1.0]]).double()
    share = soft_zbuffer(depth, opacity, scales, beta=2.0)
    first = torch.tensor([math.exp(-6), 0.5 * math.exp(-4), 0.0]).double()
    second = torch.tensor([math.exp(-6), 0.5 * math.exp(-8), 0.0]).double()
    torch.testing.assert_close(share[:, 0], torch.stack([first / first.sum(), second / second.sum()]))
    far = soft_zbuffer(1e4 * depth, opacity, scales, beta=100.0)
    torch.testing.assert_close(far[:, 0], torch.tensor([[0.0, 1, 0], [1.0, 0, 0]]).double())


def test_soft_zbuffer_gives_no_share_where_nothing_is_hit() -> None:
    share = soft_zbuffer(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2), beta=1.0)
    torch.testing.assert_close(share, torch.zeros(1, 1, 2))


def test_surface_depth_is_not_fooled_by_what_shines_through() -> None:
    """Weights 0.1 at 1, 0.4 at 4.0, 0.4 at 4.1 and 0.1 at 200: the surface is at 4.05, the mean would be 23."""
    depth, weights = torch.tensor([[4.1, 1.0, 200.0, 4.0]]), torch.tensor([[0.4, 0.1, 0.1, 0.4]])
    torch.testing.assert_close(surface_depth(weights, depth), torch.tensor([4.05]))
    torch.testing.assert_close(surface_depth(torch.zeros(1, 4), depth), torch.zeros(1))
