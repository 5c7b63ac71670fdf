"""Objects on rays: alone, under exact scale combinations, and under the soft z-buffer. One implementation for all uses.

Symbols
    R rays, K objects, S samples per object and ray, H scale combinations
    u       z-depth of a sample in its object's own unit, not decreasing along S
    tau     optical thickness of a sample, sigma * (length in the object's own unit); alpha = 1 - exp(-tau)
    s       scale: the sample sits at depth s_k u in world units. alpha does not change with s (DESIGN section 2)

Under s, sample i of object k is hidden by all samples in front of it, whoever owns them:
    weight = alpha_i * exp(-(thickness of k before i)) * prod over j != k of exp(-(thickness of j nearer than s_k u_i)).
Each factor of the product is a look-up of s_k u_i / s_j in j's own sorted list, so nothing is sorted and no field is queried
again for another s. At equal depth the object with the lower column is in front.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MAX_THICKNESS = 80.0
"""exp(-80) is zero in single precision; more would only overflow."""


@dataclass(frozen=True)
class RaySamples:
    """Samples of all objects on a batch of rays, in own units. Unused places have tau = 0 and any (sorted) depth."""

    depth: Float[Tensor, "rays objects samples"]
    tau: Float[Tensor, "rays objects samples"]
    rgb: Float[Tensor, "rays objects samples 3"]

    def before(self) -> Float[Tensor, "rays objects samples_and_end"]:
        """Thickness of each object's own samples in front of each of its samples, and in total at the end."""
        return thickness_before(self.tau)

    def own_weights(self) -> Float[Tensor, "rays objects samples"]:
        """Weights of each object rendered alone; no combination can give a sample more."""
        return own_weights(self.tau)

    def compressed(self, n_kept: int) -> "RaySamples":
        """Each object's `n_kept` samples of largest own weight, in order of depth (for scoring many combinations)."""
        if n_kept >= self.depth.shape[-1]:
            return self
        kept = self.own_weights().topk(n_kept, -1).indices.sort(-1).values
        rgb = self.rgb.gather(2, kept[..., None].expand(*kept.shape, 3))
        return RaySamples(self.depth.gather(2, kept), self.tau.gather(2, kept), rgb)


@dataclass(frozen=True)
class Alone:
    """Each object rendered by itself, in its own unit. Depth is the mean over the weights, 0 where nothing is hit."""

    rgb: Float[Tensor, "rays objects 3"]
    depth: Float[Tensor, "rays objects"]
    opacity: Float[Tensor, "rays objects"]


@dataclass(frozen=True)
class Composite:
    """H scenes seen on R rays. `rgb` and `depth` are sums over weights: opacity below 1 leaves black and depth 0."""

    rgb: Float[Tensor, "combinations rays 3"]
    depth: Float[Tensor, "combinations rays"]
    weights: Float[Tensor, "combinations rays objects"]

    @property
    def opacity(self) -> Float[Tensor, "combinations rays"]:
        return self.weights.sum(-1)


def opacity_of(tau: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """1 - exp(-tau), accurate for small tau, with finite gradients for any."""
    return -torch.expm1(-tau.clamp(max=MAX_THICKNESS))


def thickness_before(tau: Float[Tensor, "*b samples"]) -> Float[Tensor, "*b samples_and_end"]:
    """Thickness in front of each sample, and in total at the end."""
    return torch.nn.functional.pad(tau.clamp(max=MAX_THICKNESS).cumsum(-1), (1, 0))


def own_weights(tau: Float[Tensor, "*b samples"]) -> Float[Tensor, "*b samples"]:
    """Weights of one object's samples when nothing else is there."""
    return opacity_of(tau) * torch.exp(-thickness_before(tau)[..., :-1])


def alone(samples: RaySamples) -> Alone:
    weights = samples.own_weights()
    opacity = weights.sum(-1)
    depth = (weights * samples.depth).sum(-1) / opacity.clamp_min(1e-6)
    return Alone((weights[..., None] * samples.rgb).sum(-2), depth, opacity)


def sample_weights(
    samples: RaySamples, scales: Float[Tensor, "combinations objects"]
) -> Float[Tensor, "h rays objects samples"]:
    """The weight of every sample under every combination."""
    n_objects = samples.depth.shape[1]
    before = samples.before()
    depth = samples.depth.detach().transpose(0, 1).contiguous()
    alpha = opacity_of(samples.tau)
    per_object = []
    for k in range(n_objects):
        thickness = before[None, :, k, :-1]
        for j in range(n_objects):
            if j != k:
                thickness = thickness + _thickness_in_front(depth, before, scales, k, j)
        per_object.append(alpha[None, :, k] * torch.exp(-thickness))
    return torch.stack(per_object, 2)


def _thickness_in_front(
    depth: Float[Tensor, "objects rays samples"],
    before: Float[Tensor, "rays objects samples_and_end"],
    scales: Float[Tensor, "h objects"],
    k: int,
    j: int,
) -> Float[Tensor, "h rays samples"]:
    """Thickness of object j nearer than each sample of object k."""
    n_rays, n_samples = depth.shape[1:]
    ratio = scales[:, k] / scales[:, j]
    # Rays first, so that all combinations of one ray are looked up in one list.
    wanted = (depth[k][:, None, :] * ratio[None, :, None]).reshape(n_rays, -1)
    place = torch.searchsorted(depth[j], wanted, right=j < k)
    found = before[:, j].gather(1, place)
    return found.view(n_rays, len(ratio), n_samples).transpose(0, 1)


def composite(samples: RaySamples, scales: Float[Tensor, "combinations objects"]) -> Composite:
    """All objects together under each scale combination, from one query of the fields.

    The result has gradients for tau and rgb (not for the order in depth, which is piecewise constant).
    """
    return blended(samples, scales, sample_weights(samples, scales))


def blended(
    samples: RaySamples, scales: Float[Tensor, "combinations objects"], weights: Float[Tensor, "h rays objects samples"]
) -> Composite:
    """Images from the weights of `sample_weights`."""
    rgb = torch.einsum("hrks,rksc->hrc", weights, samples.rgb)
    depth = torch.einsum("hrks,rks,hk->hr", weights, samples.depth, scales)
    return Composite(rgb, depth, weights.sum(-1))


def surface_depth(
    weights: Float[Tensor, "rays samples"], depth: Float[Tensor, "rays samples"], window: float = 0.05
) -> Float[Tensor, " rays"]:
    """Depth of the surface that a ray sees: the mean over the samples near the median (within a share `window` of it).

    The mean over all samples is worthless where a little light passes and ends in unbounded space. Samples in any order;
    0 where there is no weight.
    """
    order = depth.argsort(1)
    sorted_depth, mass = depth.gather(1, order), weights.gather(1, order).cumsum(1)
    half = torch.searchsorted(mass, 0.5 * mass[:, -1:]).clamp(max=depth.shape[1] - 1)
    median = sorted_depth.gather(1, half)
    near = weights * ((depth - median).abs() <= window * median)
    return (near * depth).sum(1) / near.sum(1).clamp_min(1e-9)


def soft_zbuffer(
    depth: Float[Tensor, "rays objects"],
    opacity: Float[Tensor, "rays objects"],
    scales: Float[Tensor, "combinations objects"],
    beta: float,
) -> Float[Tensor, "combinations rays objects"]:
    """Share of each object at each ray by a soft minimum of scaled depth: opacity * exp(-beta * s_k d_k), normalised.

    The approximation of OSN (Song et al. 2024, section 3) for scoring thousands of combinations from K alone images.
    beta: per world unit of depth. Objects of zero opacity get no share; with none hit the shares are all zero.
    """
    distance = scales[:, None, :] * depth
    # Shifting all distances of a ray by the nearest leaves the shares unchanged and keeps exp from underflowing.
    nearest = torch.where(opacity > 0, distance, torch.inf).amin(-1, keepdim=True).nan_to_num(posinf=0.0)
    share = opacity * torch.exp(-beta * (distance - nearest).clamp_min(0))
    return share / share.sum(-1, keepdim=True).clamp_min(1e-12)
