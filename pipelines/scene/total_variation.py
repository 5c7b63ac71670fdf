"""Total variation of a dense grid: the mean squared difference of neighbouring nodes, summed over the axes.

It reads every node, so on a CPU it is a compiled loop that runs at the speed of memory, and adds its gradient in place.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipelines.compiled import compiled


def total_variation(table: nn.Parameter, resolution: int) -> Float[Tensor, ""]:
    """Of a table of resolution^3 rows with one channel. On a CPU gradients are added to `table.grad` (a leaf's) in place."""
    if table.is_cuda:
        return reference(table.view(resolution, resolution, resolution))
    found: Tensor = _TotalVariation.apply(table, resolution)
    return found


def reference(volume: Float[Tensor, "n n n"]) -> Float[Tensor, ""]:
    """The same with torch's own operations, on any device."""
    return torch.stack([volume.diff(dim=axis).square().mean() for axis in range(3)]).sum()


class _TotalVariation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, resolution: int) -> Tensor:
        ctx.table, ctx.resolution = table, resolution
        return table.new_tensor(_value(_volume(table, resolution)))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, None]:
        table, n = ctx.table, ctx.resolution
        if table.grad is None:
            table.grad = torch.zeros_like(table)
        share = np.float32(2 * float(grad_outputs[0]) / (n * n * (n - 1)))
        _add_gradient(_volume(table, n), share, _volume(table.grad, n))
        return None, None


def _volume(table: Tensor, resolution: int) -> Float[np.ndarray, "n n n"]:
    return table.detach().numpy().reshape(resolution, resolution, resolution)


@compiled
def _value(volume):
    n = len(volume)
    total = 0.0
    for x in range(n):
        for y in range(n):
            # Three sums, which the processor adds side by side; of one row, which is short enough for single precision.
            along, beside, behind = np.float32(0), np.float32(0), np.float32(0)
            row, next_row, next_plane = volume[x, y], volume[x, min(y + 1, n - 1)], volume[min(x + 1, n - 1), y]
            for z in range(n):
                along += (row[min(z + 1, n - 1)] - row[z]) ** 2
                beside += (next_row[z] - row[z]) ** 2
                behind += (next_plane[z] - row[z]) ** 2
            total += float(along + beside + behind)
    return total / (n * n * (n - 1))


@compiled
def _add_gradient(volume, share, grad):
    """grad += share * (sum over each node's neighbours of its difference from them)."""
    n = len(volume)
    for x in range(n):
        for y in range(n):
            row, out = volume[x, y], grad[x, y]
            for z in range(n - 1):
                difference = share * (row[z + 1] - row[z])
                out[z + 1] += difference
                out[z] -= difference
            for other_x, other_y in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)):
                if 0 <= other_x < n and 0 <= other_y < n:
                    other = volume[other_x, other_y]
                    for z in range(n):
                        out[z] += share * (row[z] - other[z])
