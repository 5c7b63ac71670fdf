"""Multilinear look-ups in channel-last tables: the one primitive under every field representation.

A table is (rows, channels). A point reads `corners` rows with `corners` weights (2 on a line, 4 on a plane, 8 in a volume).
The forward pass is torch's fused `embedding_bag`; the backward pass scatters into the table directly, which on CPU is
many times faster than embedding_bag's own.
"""

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
        channels = table.shape[1]
        grad_table = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_table = grad.new_zeros(table.shape)
            spread = weight[:, :, None] * grad[:, None, :]
            flat = index.long()[:, :, None] * channels + torch.arange(channels, device=table.device)
            grad_table.view(-1).scatter_add_(0, flat.view(-1), spread.view(-1))
        if ctx.needs_input_grad[2]:
            grad_weight = (table[index.long()] * grad[:, None, :]).sum(-1)
        return grad_table, None, grad_weight


def weighted_rows(
    table: Float[Tensor, "rows channels"], index: Int[Tensor, "n corners"], weight: Float[Tensor, "n corners"]
) -> Float[Tensor, "n channels"]:
    """Weighted sum of table rows per point."""
    rows: Tensor = _WeightedRows.apply(table, index, weight)
    return rows


def corners(
    coordinates: Float[Tensor, "n axes"], resolution: tuple[int, ...]
) -> tuple[list[tuple[Int[Tensor, "n"], ...]], Float[Tensor, "n corners"]]:
    """Lattice corners around points, and their multilinear weights.

    coordinates: in [-1, 1] per axis; -1 and 1 are the first and last lattice nodes ("align corners"). Clamped outside.
    resolution: lattice nodes per axis.
    Returns one tuple of integer coordinates per corner (last axis fastest), and the weights in the same order.
    """
    nodes = torch.tensor(resolution, device=coordinates.device, dtype=coordinates.dtype)
    position = (coordinates.clamp(-1, 1) + 1) * 0.5 * (nodes - 1)
    low = torch.minimum(position.detach().floor(), nodes - 2)
    high_weight = position - low
    low = low.int()
    per_axis = [((low[:, a], 1 - high_weight[:, a]), (low[:, a] + 1, high_weight[:, a])) for a in range(len(resolution))]
    found: list[tuple[tuple[Tensor, ...], Tensor | None]] = [((), None)]
    for ends in per_axis:
        found = [
            ((*integers, integer), weight if before is None else before * weight)
            for integers, before in found
            for integer, weight in ends
        ]
    return [integers for integers, _ in found], torch.stack([weight for _, weight in found if weight is not None], 1)


def lattice_rows(integers: list[tuple[Int[Tensor, "n"], ...]], resolution: tuple[int, ...]) -> Int[Tensor, "n corners"]:
    """Row-major rows of a dense table."""
    rows = []
    for corner in integers:
        row = corner[0]
        for axis in range(1, len(resolution)):
            row = row * resolution[axis] + corner[axis]
        rows.append(row)
    return torch.stack(rows, 1)


# The primes of Mueller et al., "Instant Neural Graphics Primitives" (2022), equation 4, as wrapped 32-bit integers.
_PRIMES = (1, 2654435761 - 2**32, 805459861)


def hashed_rows(integers: list[tuple[Int[Tensor, "n"], ...]], size: int) -> Int[Tensor, "n corners"]:
    """Rows of a table of `size` (a power of two) rows by the spatial hash of Instant-NGP."""
    rows = []
    for corner in integers:
        row = corner[0] * _PRIMES[0]
        for axis in range(1, len(corner)):
            row = row ^ (corner[axis] * _PRIMES[axis])
        rows.append(row & (size - 1))
    return torch.stack(rows, 1)
