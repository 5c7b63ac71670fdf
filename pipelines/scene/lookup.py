"""Multilinear look-ups in channel-last tables: the one primitive under every field representation.

A table is (rows, channels). A point reads `corners` rows with `corners` weights (2 on a line, 4 on a plane, 8 in a volume).
The forward pass is torch's fused `embedding_bag`; the backward pass scatters into the table directly, which on CPU is
many times faster than embedding_bag's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


class _WeightedRows(torch.autograd.Function):
    """sum_c weight[n, c] * table[index[n, c]]; gradients for the table and (when a pose is refined) for the weights."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(table, index, weight)
        return torch.nn.functional.embedding_bag(index, table, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        table, index, weight = ctx.saved_tensors
        grad = grad_outputs[0]
        grad_table = grad_weight = None
        if ctx.needs_input_grad[0]:
            rows, size = index.reshape(-1).long(), table.shape[0]
            grad_table = _scattered(rows, weight, grad, size)
        if ctx.needs_input_grad[2]:
            grad_weight = (table[index.long()] * grad[:, None, :]).sum(-1)
        return grad_table, None, grad_weight


def _scattered(
    rows: Int[Tensor, " reads"], weight: Float[Tensor, "n corners"], grad: Float[Tensor, "n channels"], size: int
) -> Float[Tensor, "size channels"]:
    """Sum of weight * grad over the reads of each row."""
    n_channels = grad.shape[1]
    if grad.is_cuda:
        return grad.new_zeros(size, n_channels).index_add_(0, rows, (weight[..., None] * grad[:, None]).flatten(0, 1))
    # One scatter per channel or, as a complex number, per two: point after point, it stays in the cache; a single one over all
    # channels does not, and joining single channels costs as much as scattering them.
    parts = []
    for c in range(0, n_channels - n_channels % 2, 2):
        pairs = torch.view_as_complex((weight[..., None] * grad[:, None, c : c + 2]).view(-1, 2))
        parts.append(torch.view_as_real(pairs.new_zeros(size).scatter_add_(0, rows, pairs)))
    if n_channels % 2:
        parts.append(grad.new_zeros(size).scatter_add_(0, rows, (weight * grad[:, -1:]).view(-1))[:, None])
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def weighted_rows(
    table: Float[Tensor, "rows channels"], index: Int[Tensor, "n corners"], weight: Float[Tensor, "n corners"]
) -> Float[Tensor, "n channels"]:
    """Weighted sum of table rows per point."""
    rows: Tensor = _WeightedRows.apply(table, index, weight)
    return rows


@dataclass(frozen=True)
class Lattice:
    """A regular lattice over [-1, 1] per axis; -1 and 1 are its first and last nodes ("align corners").

    resolution: nodes per axis. rows: None for a dense table (row-major), or the size (a power of two) of a hashed one.
    start: row at which this lattice's part of a shared table begins.
    """

    resolution: int
    rows: int | None = None
    start: int = 0


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
        step = torch.full_like(nodes, _PRIMES[axis]) if hashed else nodes ** (axes - 1 - axis)
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


_PRIMES = (1, 2654435761 - 2**32, 805459861)
"""Of the spatial hash of Instant-NGP (Mueller et al. 2022, equation 4), as wrapped 32-bit integers."""
