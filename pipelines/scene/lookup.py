"""Multilinear look-ups in channel-last tables: the one primitive under every field representation.

A table is (rows, channels). A point reads 2 rows on a line, 4 on a plane, 8 in a volume, in each of several lattices that share
a table. On a GPU this is torch's fused `embedding_bag` over arrays of rows and weights. On a CPU, where writing these arrays
takes longer than reading the table, it is compiled loops (`lookup_kernels.py`), which the tests hold against the former.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pipelines.scene import lookup_kernels


@dataclass(frozen=True)
class Lattice:
    """A regular lattice over [-1, 1] per axis; -1 and 1 are its first and last nodes ("align corners").

    resolution: nodes per axis. rows: None for a dense table (row-major), or the size (a power of two) of a hashed one.
    start: row at which this lattice's part of a shared table begins.
    """

    resolution: int
    rows: int | None = None
    start: int = 0


def interpolated(
    table: nn.Parameter, coordinates: Float[Tensor, "n axes"], lattices: Sequence[Lattice]
) -> Float[Tensor, "n features"]:
    """What the table holds at each point (clamped to [-1, 1]): features are lattice by lattice, channel by channel.

    Differentiable in the coordinates and the table. On a CPU the table's gradient is added to `table.grad` in place: a step
    reads thousands of its millions of rows, and a dense gradient per look-up took two thirds of a step.
    """
    if table.is_cuda:
        return interpolated_by_rows(table, coordinates, lattices)
    found: Tensor = _Interpolated.apply(table, coordinates, tuple(lattices))
    return found


class _Interpolated(torch.autograd.Function):
    """The compiled loops under autograd."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, coordinates: Tensor, lattices: tuple[Lattice, ...]) -> Tensor:
        axes = coordinates.shape[1]
        places = nn.functional.pad(coordinates, (0, 3 - axes)).contiguous().numpy()
        ctx.table, ctx.places, ctx.axes, ctx.packed = table, places, axes, _packed(lattices, axes)
        found = coordinates.new_zeros(len(coordinates), len(lattices) * table.shape[1])
        lookup_kernels.interpolate(table.detach().numpy(), places, ctx.packed, found.numpy())
        return found

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor | None, None]:
        table, grad = ctx.table, grad_outputs[0].contiguous().numpy()
        if ctx.needs_input_grad[0]:
            if table.grad is None:
                table.grad = torch.zeros_like(table)
            lookup_kernels.scatter(grad, ctx.places, ctx.packed, table.grad.numpy())
        if not ctx.needs_input_grad[1]:
            return None, None, None
        slope = np.zeros_like(ctx.places)
        lookup_kernels.slope(grad, table.detach().numpy(), ctx.places, ctx.packed, slope)
        return None, torch.from_numpy(slope[:, : ctx.axes].copy()), None


@lru_cache(maxsize=256)
def _packed(lattices: tuple[Lattice, ...], axes: int) -> Int[np.ndarray, "lattices 8"]:
    """Lattices as the compiled loops read them."""
    unused, rows = [0] * (3 - axes), []
    for lattice in lattices:
        n, hashed = lattice.resolution, lattice.rows
        steps = [n ** (axes - 1 - axis) for axis in range(axes)] if hashed is None else _PRIMES[:axes]
        rows.append([*[n] * axes, *[1 for _ in unused], *steps, *unused, -1 if hashed is None else hashed - 1, lattice.start])
    return np.array(rows, np.int64)


def interpolated_by_rows(
    table: Float[Tensor, "rows channels"], coordinates: Float[Tensor, "n axes"], lattices: Sequence[Lattice]
) -> Float[Tensor, "n features"]:
    """The same with torch's own operations, on any device."""
    found = []
    for kind in (False, True):
        alike = [lattice for lattice in lattices if (lattice.rows is not None) is kind]
        if alike:
            read: Tensor = _WeightedRows.apply(table, *corner_reads(coordinates, alike))
            by_point = read.view(len(alike), len(coordinates), table.shape[1]).transpose(0, 1)
            found.append(by_point.reshape(len(coordinates), len(alike) * table.shape[1]))
    return found[0] if len(found) == 1 else torch.cat(found, -1)


class _WeightedRows(torch.autograd.Function):
    """sum_c weight[n, c] * table[index[n, c]]; gradients for the table and (when a pose is refined) for the weights."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(table, index, weight)
        return nn.functional.embedding_bag(index, table, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        table, index, weight = ctx.saved_tensors
        grad = grad_outputs[0]
        grad_table = grad_weight = None
        if ctx.needs_input_grad[0]:
            shares = (weight[..., None] * grad[:, None]).flatten(0, 1)
            grad_table = torch.zeros_like(table).index_add_(0, index.reshape(-1).long(), shares)
        if ctx.needs_input_grad[2]:
            grad_weight = (table[index.long()] * grad[:, None, :]).sum(-1)
        return grad_table, None, grad_weight


def corner_reads(
    coordinates: Float[Tensor, "n axes"], lattices: Sequence[Lattice]
) -> tuple[Int[Tensor, "reads corners"], Float[Tensor, "reads corners"]]:
    """Rows and multilinear weights of the corners around each point (clamped to [-1, 1]) in each of several lattices.

    The lattices are all dense or all hashed. Row l * n + i of the result is point i in lattice l; the corners' last axis runs
    fastest. Weights are differentiable in the coordinates.
    """
    axes, hashed = coordinates.shape[1], lattices[0].rows is not None
    nodes, last, start = _columns(tuple(lattices), coordinates.device)
    row = weight = None
    # All arrays are (corners so far, lattices, points): long contiguous runs, which elementwise kernels need.
    for axis in range(axes):
        position = (coordinates[:, axis].clamp(-1, 1) + 1) * (0.5 * (nodes - 1))
        low = torch.minimum(position.detach().floor(), nodes - 2)
        factor = position - low
        step = torch.full_like(nodes, _wrapped(_PRIMES[axis])) if hashed else nodes ** (axes - 1 - axis)
        first = low.int() * step
        pair, factors = torch.stack([first, first + step]), torch.stack([1 - factor, factor])
        if row is None or weight is None:
            row, weight = pair, factors
        else:
            row = ((row[:, None] ^ pair) if hashed else (row[:, None] + pair)).flatten(0, 1)
            weight = (weight[:, None] * factors).flatten(0, 1)
    assert row is not None and weight is not None
    if hashed:
        row = row & last
    row = row + start
    return row.flatten(1).t().contiguous(), weight.flatten(1).t().contiguous()


def _wrapped(value: int) -> int:
    """As a 32-bit integer: the lowest bits of products, which are all that a hash keeps, stay the same."""
    return (value + 2**31) % 2**32 - 2**31


@lru_cache(maxsize=256)
def _columns(
    lattices: tuple[Lattice, ...], device: torch.device
) -> tuple[Int[Tensor, "lattices 1"], Int[Tensor, "lattices 1"], Int[Tensor, "lattices 1"]]:
    """Resolution, last row and first row of each lattice, kept on the device: a copy there would wait for it."""

    def column(values: list[int]) -> Int[Tensor, "lattices 1"]:
        return torch.tensor(values, dtype=torch.int32, device=device)[:, None]

    return (
        column([lattice.resolution for lattice in lattices]),
        column([(lattice.rows or 1) - 1 for lattice in lattices]),
        column([lattice.start for lattice in lattices]),
    )


_PRIMES = (1, 2654435761, 805459861)
"""Of the spatial hash of Instant-NGP (Mueller et al. 2022, equation 4)."""
