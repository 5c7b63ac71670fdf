"""What a rendering is held against. Every function returns a mean over the rays that count, zero when there are none.

Symbols: n rays, K objects, S samples. A weight of 0 excludes a ray; nothing here divides by zero or takes log(0).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def weighted_mean(values: Float[Tensor, " n"], weights: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    return (values * weights).sum() / weights.sum().clamp_min(1.0)


def colour_loss(rgb: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"], counted: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean squared error, the quantity that PSNR measures."""
    return weighted_mean((rgb - target).square().mean(-1), counted.to(rgb.dtype))


def depth_loss(
    weights: Float[Tensor, "n S"], depth: Float[Tensor, "n S"], target: Float[Tensor, " n"], counted: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Expected relative distance of a ray's samples from the known depth, at most 1 each; what passes through counts 1.

    The expectation of the error, not the error of the expected depth: it cannot be fooled by a near and a far half, and it
    pulls weight to the surface from anywhere on the ray. Rays without a target are counted 0.
    """
    off = (depth / target.clamp_min(1e-6)[:, None] - 1).abs().clamp(max=1.0)
    return weighted_mean((weights * off).sum(-1) + 1 - weights.sum(-1), counted)


def segmentation_loss(
    weights: Float[Tensor, "n K"], column: Int[Tensor, " n"], counted: Bool[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Cross-entropy between the objects' shares of a ray and the mask. Column 255 (unknown) must not be counted."""
    seen = weights.gather(1, column.clamp(max=weights.shape[1] - 1)[:, None])[:, 0]
    return weighted_mean(-torch.log(seen.clamp(1e-4, 1.0)), counted.to(weights.dtype))


def opacity_loss(opacity: Float[Tensor, "*n"], counted: Bool[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Cross-entropy that pulls opacity to 1."""
    return weighted_mean(-torch.log(opacity.clamp(1e-4, 1.0)).flatten(), counted.to(opacity.dtype).flatten())


def distortion_loss(
    weights: Float[Tensor, "*n S"], depth: Float[Tensor, "*n S"], scale: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    """Spread of the weights along each ray (mip-NeRF 360, equation 15, between intervals).

    sum_ij w_i w_j |v_i - v_j| in linear time: for sorted v it is 2 sum_i w_i (v_i W_{<i} - V_{<i}). Depth enters as
    v = u / (u + scale), so that the far end of unbounded space counts no more than one.
    """
    v = depth / (depth + scale[..., None])
    mass, moment = weights.cumsum(-1) - weights, (weights * v).cumsum(-1) - weights * v
    return 2 * (weights * (v * mass - moment)).sum(-1)
