"""Losses against hand-worked numbers and a quadratic reference."""

import math

import torch

from pipelines.scene import losses


def test_colour_is_the_mean_squared_error_of_counted_rays() -> None:
    rgb, target = torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]), torch.tensor([[0.5, 0.2, 0.5], [1.0, 1.0, 1.0]])
    loss = losses.colour_loss(rgb, target, torch.tensor([True, False]))
    torch.testing.assert_close(loss, torch.tensor(0.03))


def test_depth_counts_every_sample_and_what_passes_through() -> None:
    """Half the light at 2 (right), a quarter at 1 (off by a half), a quarter passes: 0.25 * 0.5 + 0.25 * 1."""
    loss = losses.depth_loss(torch.tensor([[0.25, 0.5]]), torch.tensor([[1.0, 2.0]]), torch.tensor([2.0]), torch.tensor([1.0]))
    torch.testing.assert_close(loss, torch.tensor(0.375))


def test_a_near_and_a_far_half_do_not_make_the_right_depth() -> None:
    """Their mean is exactly the target, and still the loss is large."""
    split = losses.depth_loss(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 3.0]]), torch.tensor([2.0]), torch.tensor([1.0]))
    torch.testing.assert_close(split, torch.tensor(0.5))


def test_segmentation_is_the_cross_entropy_of_known_labels() -> None:
    weights = torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.1, 0.2]])
    column, known = torch.tensor([1, 0, 255]), torch.tensor([True, True, False])
    loss = losses.segmentation_loss(weights, column, known)
    torch.testing.assert_close(loss, torch.tensor(-(math.log(0.75) + math.log(0.5)) / 2))


def test_no_counted_ray_gives_zero_not_nan() -> None:
    nothing = torch.zeros(2, dtype=torch.bool)
    assert float(losses.colour_loss(torch.rand(2, 3), torch.rand(2, 3), nothing)) == 0
    assert float(losses.opacity_loss(torch.rand(2), nothing)) == 0
    assert float(losses.depth_loss(torch.rand(2, 3), torch.rand(2, 3), torch.zeros(2), torch.zeros(2))) == 0


def test_distortion_equals_the_double_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(4, 7, generator=generator)
    depth = (5 * torch.rand(4, 7, generator=generator)).sort(-1).values
    v = depth / (depth + 2.0)
    expected = torch.einsum("ni,nj,nij->n", weights, weights, (v[:, :, None] - v[:, None, :]).abs())
    torch.testing.assert_close(losses.distortion_loss(weights, depth, torch.full((4,), 2.0)), expected)


def test_gradients_are_finite_at_the_extremes() -> None:
    opacity = torch.tensor([0.0, 1.0], requires_grad=True)
    weights = torch.tensor([[0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    everywhere = torch.ones(2, dtype=torch.bool)
    loss = losses.opacity_loss(opacity, everywhere) + losses.segmentation_loss(weights, torch.tensor([0, 0]), everywhere)
    loss.backward()
    for gradient in (opacity.grad, weights.grad):
        assert gradient is not None
        assert bool(torch.isfinite(gradient).all())
