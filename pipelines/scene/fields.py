"""Object fields: density and colour of one object, in its own frame and unit.

`ObjectField` is the interface that the rest of the program knows. A new representation is one subclass that fills in the
three abstract methods. Density is per own unit of length; inside, it is normalised by the box so that one set of
hyper-parameters fits every object and unit.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipelines.scene.contraction import Box
from pipelines.scene.lookup import Lattice, corner_reads, interpolated
from pipelines.scene.total_variation import total_variation


class FieldKind(StrEnum):
    """Representations of an object."""

    GRID = "grid"
    """Dense density grids and hashed colour grids: quick to train on a CPU."""
    TENSORF = "tensorf"
    """Vector-matrix decomposition (Chen et al., "TensoRF", 2022), the paper's choice."""


@dataclass(frozen=True)
class FieldSize:
    """How much a field can hold. Resolutions are nodes along a cubic grid; they grow over training."""

    kind: FieldKind
    density_components: int
    """TensoRF: vector-matrix products per plane. Grid: number of nested resolutions."""
    colour_components: int
    """TensoRF: vector-matrix products per plane. Grid: channels per nested resolution."""
    colour_levels: int
    """Grid only: number of nested resolutions of colour."""
    table_bits: int
    """Grid only: at most 2**table_bits rows per colour level."""
    colour_resolution: int
    """Grid only: nodes per axis of the finest colour level (fixed; hashing makes it affordable from the start)."""
    hidden: int
    """Width of the colour network."""


class ObjectField(nn.Module, ABC):
    """One object: `query` is the whole interface for rendering and export."""

    def __init__(self, box: Box, size: FieldSize, resolution: int) -> None:
        super().__init__()
        self.size = size
        self.resolution = resolution
        self.share = box.share
        self.extent = box.size
        """Mean half extent of the box: read here once, because reading it from a GPU waits for the device."""
        self.register_buffer("box_centre", box.centre.clone())
        self.register_buffer("box_half_extent", box.half_extent.clone())
        # An opaque surface one node thick and an empty box are both near raw = 0 at any resolution.
        self.density_gain = 32.0 / self.extent

    box_centre: Tensor
    box_half_extent: Tensor

    @property
    def box(self) -> Box:
        return Box(self.box_centre, self.box_half_extent, self.share)

    @abstractmethod
    def raw_density(self, g: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Density before its activation, at grid coordinates."""

    @abstractmethod
    def features(self, g: Float[Tensor, "n 3"]) -> Float[Tensor, "n features"]:
        """What the colour network reads."""

    @abstractmethod
    def seed(self, g: Float[Tensor, "m 3"]) -> None:
        """Start with some density around known surface points (grid coordinates); before training."""

    @abstractmethod
    def upsample(self, resolution: int) -> None:
        """Continue at a finer resolution, changing the field as little as interpolation allows."""

    @abstractmethod
    def smoothness(self) -> Float[Tensor, ""]:
        """Total variation: mean squared difference of neighbouring nodes."""

    def density(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Density per own unit; zero outside a bounded object's box."""
        box = self.box
        sigma = nn.functional.softplus(self.raw_density(box.grid_from_obj(points)) + DENSITY_SHIFT) * self.density_gain
        return sigma if box.unbounded else torch.where(box.holds(points), sigma, torch.zeros_like(sigma))

    def colour(self, points: Float[Tensor, "n 3"], dirs: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """RGB in [0, 1]; dirs need not have unit length."""
        inputs = torch.cat([self.features(self.box.grid_from_obj(points)), direction_features(dirs)], -1)
        # Rays and compositing need every digit; and float16 hasn't the range of gradients, bfloat16 has.
        halved = inputs.is_cuda and torch.is_grad_enabled() and torch.cuda.is_bf16_supported(including_emulation=False)
        with torch.autocast("cuda", torch.bfloat16, enabled=halved):
            return self.colour_network(inputs).to(inputs.dtype)

    def query(
        self, points: Float[Tensor, "n 3"], dirs: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Density per own unit of length and RGB in [0, 1], at points and viewing directions in the object's own frame."""
        return self.density(points), self.colour(points, dirs)

    colour_network: nn.Module
    sparse_table: str | None = None
    """Name of the parameter of which a step reads hardly anything, if there is one."""


DENSITY_SHIFT = -8.0
"""Raw density 0 is nearly empty: softplus(-8) * 32 is an opacity of 2 % across the whole box."""


def direction_features(dirs: Float[Tensor, "n 3"]) -> Float[Tensor, "n 8"]:
    """Spherical harmonics of degree 1 and 2 of unit directions, without their constant factors."""
    x, y, z = nn.functional.normalize(dirs, dim=-1).unbind(-1)
    return torch.stack([x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], -1)


def colour_network(n_features: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_features + 8, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, 3),
        nn.Sigmoid(),
    )


class GridField(ObjectField):
    """Nested dense grids summed into density; nested hashed grids (Instant-NGP) read by the colour network."""

    def __init__(self, box: Box, size: FieldSize, resolution: int) -> None:
        super().__init__(box, size, resolution)
        self.density_resolutions = [max(4, resolution // 2**i) for i in reversed(range(size.density_components))]
        tables = [torch.zeros(r**3, 1) for r in self.density_resolutions]
        self.density_tables = nn.ParameterList([nn.Parameter(table) for table in tables])
        growth = (size.colour_resolution / COARSEST) ** (1 / max(1, size.colour_levels - 1))
        self.colour_resolutions = [round(COARSEST * growth**level) for level in range(size.colour_levels)]
        self.colour_rows = [min(2**size.table_bits, 2 ** (r**3 - 1).bit_length()) for r in self.colour_resolutions]
        starts = [sum(self.colour_rows[:level]) for level in range(size.colour_levels)]
        self.colour_lattices = [
            Lattice(r, rows if r**3 > rows else None, start)
            for r, rows, start in zip(self.colour_resolutions, self.colour_rows, starts, strict=True)
        ]
        start = torch.empty(sum(self.colour_rows), size.colour_components).uniform_(-1e-2, 1e-2)
        self.colour_table = nn.Parameter(start)
        self.sparse_table = "colour_table"
        self.colour_network = colour_network(size.colour_levels * size.colour_components, size.hidden)

    def raw_density(self, g: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        total = torch.zeros_like(g[:, 0])
        for resolution, table in zip(self.density_resolutions, self.density_tables, strict=True):
            total = total + interpolated(table, g, [Lattice(resolution)])[:, 0]
        return total

    def features(self, g: Float[Tensor, "n 3"]) -> Float[Tensor, "n features"]:
        return interpolated(self.colour_table, g, self.colour_lattices)

    @torch.no_grad()
    def seed(self, g: Float[Tensor, "m 3"]) -> None:
        """Raise the nodes next to the points in the finest density grid (coarser ones would cover the surface with fog)."""
        rows, weight = corner_reads(g, [Lattice(self.density_resolutions[-1])])
        nearest = rows.gather(1, weight.argmax(1, keepdim=True).to(rows.dtype).long())
        self.density_tables[-1][nearest.unique()] = SEED_DENSITY

    @torch.no_grad()
    def upsample(self, resolution: int) -> None:
        """Density grids are interpolated; the colour tables already hold their finest level."""
        self.resolution = resolution
        finer = [max(4, resolution // 2**i) for i in reversed(range(self.size.density_components))]
        for i, (before, after) in enumerate(zip(self.density_resolutions, finer, strict=True)):
            volume = self.density_tables[i].view(1, 1, before, before, before)
            grown = nn.functional.interpolate(volume, size=(after,) * 3, mode="trilinear", align_corners=True)
            self.density_tables[i] = nn.Parameter(grown.reshape(-1, 1))
        self.density_resolutions = finer

    def smoothness(self) -> Float[Tensor, ""]:
        grids = zip(self.density_tables, self.density_resolutions, strict=True)
        return torch.stack([total_variation(table, resolution) for table, resolution in grids]).sum()


SEED_DENSITY = 11.0
"""Raw density at a known point: nearly opaque over one node."""

COARSEST = 16
"""Nodes of the coarsest colour level."""

_PLANES = ((0, 1), (0, 2), (1, 2))
_LINES = (2, 1, 0)


class TensorfField(ObjectField):
    """TensoRF VM: sum over three plane-line pairs and their components (Chen et al. 2022, equations 3 and 8)."""

    def __init__(self, box: Box, size: FieldSize, resolution: int) -> None:
        super().__init__(box, size, resolution)
        self.density_planes, self.density_lines = self._factors(size.density_components, resolution)
        self.colour_planes, self.colour_lines = self._factors(size.colour_components, resolution)
        self.basis = nn.Linear(3 * size.colour_components, 27, bias=False)
        self.colour_network = colour_network(27, size.hidden)

    @staticmethod
    def _factors(components: int, resolution: int) -> tuple[nn.ParameterList, nn.ParameterList]:
        planes = [nn.Parameter(0.1 * torch.randn(resolution**2, components)) for _ in range(3)]
        lines = [nn.Parameter(0.1 * torch.randn(resolution, components)) for _ in range(3)]
        return nn.ParameterList(planes), nn.ParameterList(lines)

    def _products(
        self, planes: nn.ParameterList, lines: nn.ParameterList, g: Float[Tensor, "n 3"]
    ) -> list[Float[Tensor, "n components"]]:
        products = []
        for plane, line, axes, axis in zip(planes, lines, _PLANES, _LINES, strict=True):
            lattice = [Lattice(self.resolution)]
            products.append(interpolated(plane, g[:, axes], lattice) * interpolated(line, g[:, axis : axis + 1], lattice))
        return products

    def raw_density(self, g: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        products = self._products(self.density_planes, self.density_lines, g)
        return (products[0] + products[1] + products[2]).sum(-1)

    def features(self, g: Float[Tensor, "n 3"]) -> Float[Tensor, "n features"]:
        return self.basis(torch.cat(self._products(self.colour_planes, self.colour_lines, g), -1))

    @torch.no_grad()
    def seed(self, g: Float[Tensor, "m 3"]) -> None:
        """Products of planes and lines cannot hold scattered points: the start stays random."""

    @torch.no_grad()
    def upsample(self, resolution: int) -> None:
        """Bilinear interpolation of planes and linear of lines (Chen et al. 2022, section 4.3)."""
        before, self.resolution = self.resolution, resolution
        for factors in (self.density_planes, self.colour_planes):
            for i, plane in enumerate(factors):
                image = plane.view(1, before, before, -1).permute(0, 3, 1, 2)
                grown = nn.functional.interpolate(image, size=(resolution, resolution), mode="bilinear", align_corners=True)
                factors[i] = nn.Parameter(grown[0].permute(1, 2, 0).reshape(resolution**2, -1).contiguous())
        for factors in (self.density_lines, self.colour_lines):
            for i, line in enumerate(factors):
                grown = nn.functional.interpolate(line.T[None], size=resolution, mode="linear", align_corners=True)
                factors[i] = nn.Parameter(grown[0].T.contiguous())

    def smoothness(self) -> Float[Tensor, ""]:
        total = self.density_planes[0].new_zeros(())
        for factors, weight in ((self.density_planes, 1.0), (self.colour_planes, 0.1)):
            for plane in factors:
                image = plane.view(self.resolution, self.resolution, -1)
                total = total + weight * (image.diff(dim=0).square().mean() + image.diff(dim=1).square().mean())
        return total


def make_field(box: Box, size: FieldSize, resolution: int) -> ObjectField:
    """An untrained field of the kind that `size` names (random start from torch's global generator)."""
    match size.kind:
        case FieldKind.GRID:
            return GridField(box, size, resolution)
        case FieldKind.TENSORF:
            return TensorfField(box, size, resolution)
        case _:
            assert_never(size.kind)
