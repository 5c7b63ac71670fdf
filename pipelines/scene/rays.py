"""Rays of a camera in an object's own frame, and where on them the object's field is asked.

Symbols
    o, d    origin and direction of a ray in the object's own frame; d has camera z = 1, so the parameter u is z-depth
    edges   u of the ends of S consecutive intervals; a sample stands at its interval's middle
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipelines.scene.contraction import Box
from pipelines.scene.occupancy import DensityCache

FAR_FACTOR = 10.0
"""Rays in unbounded space end at this multiple of the depth where they leave the near box."""


MAX_PROPOSED = 0.2
"""Thickness that one cell of the division can have in a proposal. A cell of the cache is dense as a whole when a surface is
anywhere in it; were it opaque, no sample would be placed behind its front side, where the surface may be, and a ray that only
grazes a surface would miss the one behind."""


@dataclass(frozen=True)
class Rays:
    """Rays in one object's own frame.

    seen_from: where the colours are looked at from, if not along the rays (see `Scene.render`).
    """

    origins: Float[Tensor, "n 3"]
    directions: Float[Tensor, "n 3"]
    seen_from: Float[Tensor, "3"] | None = None

    def points(self, depth: Float[Tensor, "n samples"]) -> Float[Tensor, "n samples 3"]:
        return self.origins[:, None] + depth[..., None] * self.directions[:, None]

    def __getitem__(self, chosen: Tensor) -> "Rays":
        return Rays(self.origins[chosen], self.directions[chosen], self.seen_from)


def camera_directions(intrinsics: Float[Tensor, "3 3"], xy_px: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
    """Directions in camera axes with z = 1, as `pipelines.geometry.ray_directions`."""
    x = (xy_px[:, 0] - intrinsics[0, 2] - intrinsics[0, 1] * (xy_px[:, 1] - intrinsics[1, 2]) / intrinsics[1, 1]) / intrinsics[
        0, 0
    ]
    y = (xy_px[:, 1] - intrinsics[1, 2]) / intrinsics[1, 1]
    return torch.stack([x, y, torch.ones_like(x)], -1)


def object_rays(cam_from_obj: Float[Tensor, "n 4 4"], directions_cam: Float[Tensor, "n 3"]) -> Rays:
    """Camera rays in the object's own frame: o = -R^T tau, d = R^T d_cam."""
    rotation = cam_from_obj[:, :3, :3].transpose(1, 2)
    origins = -(rotation @ cam_from_obj[:, :3, 3:])[..., 0]
    return Rays(origins, (rotation @ directions_cam[..., None])[..., 0])


@dataclass(frozen=True)
class Span:
    """The part of each ray on which an object can be. Unbounded objects go on from `last` to infinity."""

    first: Float[Tensor, " n"]
    last: Float[Tensor, " n"]
    unbounded: bool

    @property
    def hits(self) -> Bool[Tensor, " n"]:
        return self.last > self.first

    def everywhere(self) -> "Span":
        """With some part of the rays that miss, too: on a GPU these are computed with the others, and must stay finite."""
        hits = self.hits
        first = torch.where(hits, self.first, torch.ones_like(self.first))
        return Span(first, torch.where(hits, self.last, 2 * first), self.unbounded)

    def __getitem__(self, chosen: Tensor) -> "Span":
        return Span(self.first[chosen], self.last[chosen], self.unbounded)

    def depth(self, share: Float[Tensor, "n edges"], far_share: float = 0.15) -> Float[Tensor, "n edges"]:
        """u at a share of the way, in [0, 1]. Unbounded: the last `far_share` goes from `last` to far, even in 1 / u."""
        first, last = self.first[:, None], self.last[:, None]
        if not self.unbounded:
            return first + (last - first) * share
        near_share = 1 - far_share
        beyond = ((share - near_share) / far_share).clamp(0, 1)
        outer = last / (1 - beyond * (1 - 1 / FAR_FACTOR))
        return torch.where(share <= near_share, first + (last - first) * (share / near_share), outer)


def span(box: Box, rays: Rays, nearest: float) -> Span:
    """Where rays cross the box, not nearer than `nearest` (own unit)."""
    enters, leaves = box.crossing(rays.origins, rays.directions)
    if box.unbounded:
        first = torch.full_like(enters, nearest)
        return Span(first, torch.maximum(leaves, 2 * first), True)
    return Span(enters.clamp_min(nearest), leaves, False)


def proposed_weights(
    cache: DensityCache, box: Box, rays: Rays, edges: Float[Tensor, "n edges"]
) -> tuple[Float[Tensor, "n bins"], Float[Tensor, " n"]]:
    """Rendering weights of the cached density on a coarse division of each ray, and the ray's opacity by it."""
    middle = 0.5 * (edges[:, 1:] + edges[:, :-1])
    density = cache.at(box.grid_from_obj(rays.points(middle)))
    thickness = density * (edges[:, 1:] - edges[:, :-1]) * rays.directions.norm(dim=-1, keepdim=True)
    thickness = thickness.clamp(max=MAX_PROPOSED)
    before = torch.nn.functional.pad(thickness.cumsum(-1), (1, 0))
    return -torch.expm1(-thickness) * torch.exp(-before[:, :-1]), -torch.expm1(-before[:, -1])


def with_expected(
    weights: Float[Tensor, "n bins"], edges: Float[Tensor, "n edges"], depth: Float[Tensor, " n"]
) -> Float[Tensor, "n bins"]:
    """Weights with some mass added where the surface is expected (depth 0: nowhere).

    Without it, a surface that has formed in front of the true one hides that from the proposals, and nothing brings it back.
    """
    place = torch.searchsorted(edges, depth[:, None].contiguous()).clamp(1, weights.shape[1]) - 1
    return weights.scatter_add(1, place, EXPECTED_MASS * (depth[:, None] > 0).to(weights.dtype))


EXPECTED_MASS = 0.5
"""Share of a ray's samples near the expected surface, over those that the cache proposes."""


def widened(weights: Float[Tensor, "n bins"]) -> Float[Tensor, "n bins"]:
    """Blurred maximum over neighbouring bins, so that a surface at a bin's edge is met (mip-NeRF, equation 18)."""
    padded = torch.nn.functional.pad(weights, (1, 1))
    pairs = torch.maximum(padded[:, 1:], padded[:, :-1])
    return 0.5 * (pairs[:, 1:] + pairs[:, :-1])


def resampled(
    weights: Float[Tensor, "n bins"], n_samples: int, floor: float, generator: torch.Generator | None
) -> Float[Tensor, "n edges"]:
    """Edges (shares in [0, 1]) of n_samples intervals, dense where the weights are.

    Inverts the cumulative distribution of (weights + floor / bins); the first and last edges are 0 and 1, so the intervals
    cover the whole ray. With a generator the inner edges are jittered within their stratum.
    """
    n, bins = weights.shape
    mass = weights + floor / bins
    cumulative = torch.nn.functional.pad(mass.cumsum(-1), (1, 0))
    cumulative = cumulative / cumulative[:, -1:]
    wanted = torch.arange(n_samples + 1, device=weights.device, dtype=weights.dtype).expand(n, -1).clone()
    if generator is not None:
        wanted[:, 1:-1] += torch.rand(n, n_samples - 1, generator=generator, device=weights.device) - 0.5
    wanted = wanted / n_samples
    place = torch.searchsorted(cumulative, wanted, right=True).clamp(1, bins)
    low, high = cumulative.gather(1, place - 1), cumulative.gather(1, place)
    inside = ((wanted - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    edges = (place - 1 + inside) / bins
    edges[:, 0], edges[:, -1] = 0.0, 1.0
    return edges
