"""Cached density on a lattice: where to put samples on a ray, and which space to skip.

The cache holds, per cell in grid coordinates, a slowly forgotten maximum of the density seen there (as Instant-NGP's
occupancy grid, Mueller et al. 2022, appendix C, with the value kept instead of a bit). It never takes part in rendering:
it only proposes where the field is queried, so a wrong cell costs samples or noise, not bias.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pipelines.scene.contraction import Box
from pipelines.workers import tensors_in_threads


class DensityCache(nn.Module):
    """Density (per own unit) of an object in cells of its grid coordinates."""

    def __init__(self, resolution: int, start: float) -> None:
        super().__init__()
        self.resolution = resolution
        self.register_buffer("density", torch.full((resolution**3,), start))

    density: Tensor

    def cells(self, g: Float[Tensor, "*b 3"]) -> Int[Tensor, "*b"]:
        """Cell of each point (clamped to the grid)."""
        low = ((g + 1) * (0.5 * self.resolution)).long().clamp_(0, self.resolution - 1)
        return (low[..., 0] * self.resolution + low[..., 1]) * self.resolution + low[..., 2]

    def at(self, g: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b"]:
        return self.density[self.cells(g)]

    def centres(self, cells: Int[Tensor, " n"]) -> Float[Tensor, "n 3"]:
        """Grid coordinates of the cells' centres."""
        n = self.resolution
        integers = torch.stack([cells // (n * n), cells // n % n, cells % n], -1)
        return (integers + 0.5) * (2 / n) - 1

    @torch.no_grad()
    def refresh(
        self,
        box: Box,
        density: Callable[[Tensor], Tensor],
        *,
        share: float,
        decay: float,
        generator: torch.Generator,
    ) -> None:
        """Look at a share of the cells anew, half of them among the occupied ones.

        The values of these fade by `decay`, but never below what was just seen there.
        """
        device = self.density.device
        total = len(self.density)
        n_cells = round(share * total)
        cells = torch.randint(total, (n_cells - n_cells // 2,), generator=generator, device=device)
        tried = torch.randint(total, (4 * n_cells,), generator=generator, device=device)
        dense = tried[self.density[tried] > self.density.mean()][: n_cells // 2]
        cells = torch.cat([cells, dense])
        jitter = (torch.rand(len(cells), 3, generator=generator, device=device) - 0.5) * (2 / self.resolution)
        seen = density(box.obj_from_grid(self.centres(cells) + jitter))
        self.density.index_copy_(0, cells, self.density[cells] * decay)
        self.density.scatter_reduce_(0, cells, seen, "amax")

    @torch.no_grad()
    def rebuild(self, box: Box, density: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
        """Forget everything and look at every cell, at a random place in each of its octants.

        Cells that were dense early in training otherwise keep drawing samples away from where the surface is now.
        """
        device = self.density.device
        octants = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], device=device)] * 3)

        def places() -> Iterator[Tensor]:
            for cells in torch.arange(len(self.density), device=device).split(CELLS_PER_CHUNK):
                jitter = torch.rand(len(cells), 8, 3, generator=generator, device=device) - 0.5
                yield self.centres(cells)[:, None] + (octants + jitter) / self.resolution

        def seen(g: Float[Tensor, "cells 8 3"]) -> Float[Tensor, " cells"]:
            return density(box.obj_from_grid(g.flatten(0, 1))).view(-1, 8).amax(1)

        self.density.copy_(torch.cat(list(tensors_in_threads(seen, places(), device))))

    @torch.no_grad()
    def observe(self, g: Float[Tensor, "n 3"], density: Float[Tensor, " n"]) -> None:
        """Learn from densities that were queried anyway: what rays keep seeing is never forgotten."""
        self.density.scatter_reduce_(0, self.cells(g), density.to(self.density.dtype), "amax")

    @torch.no_grad()
    def mark(self, g: Float[Tensor, "n 3"], density: float) -> None:
        """Raise the cells around known surface points, and their neighbours."""
        known = torch.zeros_like(self.density)
        known[self.cells(g)] = density
        n = self.resolution
        around = nn.functional.max_pool3d(known.view(1, n, n, n), 3, stride=1, padding=1)
        self.density.copy_(torch.maximum(self.density, around.view(-1)))


CELLS_PER_CHUNK = 16_384
