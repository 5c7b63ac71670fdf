"""RAFT's correlation look-up: how similar is a pixel of frame 1 to a window of pixels in frame 2, at several resolutions.

Symbols: N images, C feature channels, h x w feature grid (1/8 of the image), r window radius, L pyramid levels.
Positions inside the network count feature cells from 0 at cell centres, and a position on level l is divided by 2^l: that is
the rule the published weights were trained with, and it is nobody's business outside this package.

Source: Teed, Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow" (ECCV 2020), section 3.2.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

LEVELS = 4


class Correlation(ABC):
    """Looks up correlations around given positions."""

    @abstractmethod
    def lookup(self, position: Float[Tensor, "N 2 h w"]) -> Float[Tensor, "N features h w"]:
        """Correlation of each cell of frame 1 with the (2r+1)^2 cells around `position` (x, y) in frame 2, level by level."""


def make_correlation(
    first: Float[Tensor, "N C h w"], second: Float[Tensor, "N C h w"], radius: int, max_volume_bytes: int
) -> Correlation:
    """All pairs at once where they fit into `max_volume_bytes`, otherwise computed at each look-up. Same values."""
    n, _, height, width = first.shape
    volume_bytes = n * (height * width) ** 2 * first.element_size() * 4 // 3
    kind = AllPairs if volume_bytes <= max_volume_bytes else OnTheFly
    return kind(first, second, radius)


class AllPairs(Correlation):
    """Keeps the whole 4D correlation volume: fast look-ups, memory grows with the square of the number of cells."""

    def __init__(self, first: Float[Tensor, "N C h w"], second: Float[Tensor, "N C h w"], radius: int) -> None:
        n, channels, height, width = first.shape
        volume = first.flatten(2).mT @ second.flatten(2) / channels**0.5
        volume = volume.reshape(n * height * width, 1, height, width)
        self._pyramid = _pooled(volume)
        self._radius = radius

    def lookup(self, position: Float[Tensor, "N 2 h w"]) -> Float[Tensor, "N features h w"]:
        n, _, height, width = position.shape
        centre = position.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        offsets = window_offsets(self._radius, position)
        found = []
        for level, volume in enumerate(self._pyramid):
            sampled = sample_cells(volume, centre / 2**level + offsets)
            found.append(sampled.reshape(n, height, width, -1))
        return torch.cat(found, -1).permute(0, 3, 1, 2)


class OnTheFly(Correlation):
    """Keeps only the features and correlates inside each window: memory grows linearly with the number of cells.

    Pooling the volume over frame 2 equals pooling the features of frame 2, so both classes agree.
    """

    def __init__(self, first: Float[Tensor, "N C h w"], second: Float[Tensor, "N C h w"], radius: int) -> None:
        self._first = first / first.shape[1] ** 0.5
        self._pyramid = _pooled(second)
        self._radius = radius

    def lookup(self, position: Float[Tensor, "N 2 h w"]) -> Float[Tensor, "N features h w"]:
        centre = position.permute(0, 2, 3, 1)
        offsets = window_offsets(self._radius, position).reshape(-1, 2)
        found = []
        for level, features in enumerate(self._pyramid):
            for offset in offsets:
                sampled = sample_cells(features, centre / 2**level + offset)
                found.append((self._first * sampled).sum(1, keepdim=True))
        return torch.cat(found, 1)


def window_offsets(radius: int, like: Float[Tensor, "..."]) -> Float[Tensor, "side side 2"]:
    """(x, y) steps of the window, x changing slowest: the order of features that the published weights expect."""
    step = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(step, step, indexing="ij"), -1)


def sample_cells(grid: Float[Tensor, "M C h w"], position: Float[Tensor, "M a b 2"]) -> Float[Tensor, "M C a b"]:
    """Bilinear values at positions (x, y) in cells, zero outside."""
    height, width = grid.shape[-2:]
    size = torch.tensor([width, height], device=grid.device, dtype=position.dtype)
    return F.grid_sample(grid, (2 * position + 1) / size - 1, mode="bilinear", padding_mode="zeros", align_corners=False)


def _pooled(level: Float[Tensor, "M C h w"]) -> list[Float[Tensor, "M C _ _"]]:
    pyramid = [level]
    for _ in range(LEVELS - 1):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    return pyramid
