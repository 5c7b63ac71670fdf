"""The box-normalised coordinates in which fields live.

Symbols and frames
    X       point in the object's own frame and unit
    n       box-normalised: (X - centre) / half_extent per axis, the box is [-1, 1]^3
    g       grid coordinates in [-1, 1]^3: equal to n for bounded objects, contracted for the background

The contraction is that of mip-NeRF 360 (Barron et al. 2022, equation 10) with the maximum norm, so that it fills a cube, and
with a free share: the box takes the inner `share` of the grid (1/2 there), everything out to infinity takes the rest.
It is continuous with a continuous first derivative.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def contract(n: Float[Tensor, "*b 3"], share: float) -> Float[Tensor, "*b 3"]:
    """Box-normalised coordinates, anywhere in space, to grid coordinates in (-1, 1)."""
    size = n.abs().amax(-1, keepdim=True)
    outside = 1 - (1 - share) ** 2 / (share * (size.clamp_min(1) - 1) + 1 - share)
    return n * torch.where(size <= 1, torch.full_like(size, share), outside / size.clamp_min(1))


def expand(g: Float[Tensor, "*b 3"], share: float) -> Float[Tensor, "*b 3"]:
    """Inverse of `contract`; the rim |g| = 1 is at infinity and comes back as a large finite distance."""
    size = g.abs().amax(-1, keepdim=True)
    rest = (1 - size).clamp_min(1e-4)
    outside = 1 + ((1 - share) ** 2 / rest - (1 - share)) / share
    return g * torch.where(size <= share, torch.full_like(size, 1 / share), outside / size.clamp_min(share))


@dataclass(frozen=True)
class Box:
    """Axis-aligned box of an object in its own frame; `share` < 1 means that space outside is contracted around it."""

    centre: Float[Tensor, "3"]
    half_extent: Float[Tensor, "3"]
    share: float = 1.0

    @property
    def unbounded(self) -> bool:
        return self.share < 1

    @property
    def size(self) -> float:
        """Mean half extent in the object's unit: the yardstick that makes settings free of the unit."""
        return float(self.half_extent.mean())

    def to(self, device: torch.device | str) -> "Box":
        return Box(self.centre.to(device), self.half_extent.to(device), self.share)

    def grid_from_obj(self, points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
        n = (points - self.centre) / self.half_extent
        return contract(n, self.share) if self.unbounded else n

    def obj_from_grid(self, g: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
        n = expand(g, self.share) if self.unbounded else g
        return n * self.half_extent + self.centre

    def holds(self, points: Float[Tensor, "*b 3"]) -> Bool[Tensor, "*b"]:
        return ((points - self.centre).abs() <= self.half_extent).all(-1)

    def crossing(
        self, origins: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Ray parameters where each ray enters and leaves the box (slab method); leaves <= enters where it misses."""
        tiny = torch.full_like(directions, 1e-12)
        inverse = 1 / torch.where(directions.abs() < 1e-12, tiny, directions)
        one = (self.centre - self.half_extent - origins) * inverse
        two = (self.centre + self.half_extent - origins) * inverse
        return torch.minimum(one, two).amax(-1), torch.maximum(one, two).amin(-1)
