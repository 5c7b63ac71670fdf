"""RAFT's networks, both published sizes.

Symbols: N images, H x W image px, h x w = H/8 x W/8 feature cells, flow in px of the image unless said otherwise.
Attribute names are those of the authors' checkpoints, so that these load without a table.

Source: Teed, Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow" (ECCV 2020), section 3; layer widths from
section 3.4 and the appendix.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from third_party.raft.correlation import LEVELS, make_correlation

STRIDE = 8
"""Pixels per feature cell."""


class RaftSize(StrEnum):
    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True)
class Widths:
    """Channel counts in which the two sizes differ."""

    stages: tuple[int, int, int, int]
    features: int
    hidden: int
    context: int
    radius: int

    @property
    def correlation(self) -> int:
        return LEVELS * (2 * self.radius + 1) ** 2


WIDTHS = {
    RaftSize.SMALL: Widths(stages=(32, 32, 64, 96), features=128, hidden=96, context=64, radius=3),
    RaftSize.LARGE: Widths(stages=(64, 64, 96, 128), features=256, hidden=128, context=128, radius=4),
}

Norm = Callable[[int], nn.Module]


def no_norm(channels: int) -> nn.Module:
    return nn.Identity()


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip connection (large network)."""

    def __init__(self, channels_in: int, channels: int, norm: Norm, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.downsample = _skip(channels_in, channels, norm, stride)

    def forward(self, x: Float[Tensor, "N channels_in h_in w_in"]) -> Float[Tensor, "N channels h w"]:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self.downsample(x) + y)


class BottleneckBlock(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a quarter of the channels in the middle (small network)."""

    def __init__(self, channels_in: int, channels: int, norm: Norm, stride: int) -> None:
        super().__init__()
        middle = channels // 4
        self.conv1 = nn.Conv2d(channels_in, middle, 1)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1)
        self.conv3 = nn.Conv2d(middle, channels, 1)
        self.norm1, self.norm2, self.norm3 = norm(middle), norm(middle), norm(channels)
        self.downsample = _skip(channels_in, channels, norm, stride)

    def forward(self, x: Float[Tensor, "N channels_in h_in w_in"]) -> Float[Tensor, "N channels h w"]:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        y = F.relu(self.norm3(self.conv3(y)))
        return F.relu(self.downsample(x) + y)


def _skip(channels_in: int, channels: int, norm: Norm, stride: int) -> nn.Module:
    if stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride), norm(channels))


class Encoder(nn.Module):
    """Image to features at an eighth of its size."""

    def __init__(self, size: RaftSize, channels: int, norm: Norm) -> None:
        super().__init__()
        block = BottleneckBlock if size is RaftSize.SMALL else ResidualBlock
        first, *stages = WIDTHS[size].stages
        self.conv1 = nn.Conv2d(3, first, 7, 2, padding=3)
        self.norm1 = norm(first)
        layers, before = [], first
        for stride, width in zip((1, 2, 2), stages, strict=True):
            layers.append(nn.Sequential(block(before, width, norm, stride), block(width, width, norm, 1)))
            before = width
        self.layer1, self.layer2, self.layer3 = layers
        self.conv2 = nn.Conv2d(before, channels, 1)

    def forward(self, image: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N channels h w"]:
        x = F.relu(self.norm1(self.conv1(image)))
        return self.conv2(self.layer3(self.layer2(self.layer1(x))))


class SmallMotionEncoder(nn.Module):
    """Correlation features and current flow to motion features."""

    channels = 82

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(widths.correlation, 96, 1)
        self.convf1 = nn.Conv2d(2, 64, 7, padding=3)
        self.convf2 = nn.Conv2d(64, 32, 3, padding=1)
        self.conv = nn.Conv2d(128, self.channels - 2, 3, padding=1)

    def forward(self, flow: Float[Tensor, "N 2 h w"], correlation: Float[Tensor, "N c h w"]) -> Float[Tensor, "N m h w"]:
        seen = F.relu(self.convc1(correlation))
        moved = F.relu(self.convf2(F.relu(self.convf1(flow))))
        return torch.cat([F.relu(self.conv(torch.cat([seen, moved], 1))), flow], 1)


class LargeMotionEncoder(nn.Module):
    """Correlation features and current flow to motion features."""

    channels = 128

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(widths.correlation, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(256, self.channels - 2, 3, padding=1)

    def forward(self, flow: Float[Tensor, "N 2 h w"], correlation: Float[Tensor, "N c h w"]) -> Float[Tensor, "N m h w"]:
        seen = F.relu(self.convc2(F.relu(self.convc1(correlation))))
        moved = F.relu(self.convf2(F.relu(self.convf1(flow))))
        return torch.cat([F.relu(self.conv(torch.cat([seen, moved], 1))), flow], 1)


def _gru_step(
    hidden: Float[Tensor, "N hidden h w"], x: Float[Tensor, "N input h w"], convz: nn.Module, convr: nn.Module, convq: nn.Module
) -> Float[Tensor, "N hidden h w"]:
    """Equations 3 to 6: update gate z, reset gate r, proposal q."""
    both = torch.cat([hidden, x], 1)
    z, r = torch.sigmoid(convz(both)), torch.sigmoid(convr(both))
    q = torch.tanh(convq(torch.cat([r * hidden, x], 1)))
    return (1 - z) * hidden + z * q


class Gru(nn.Module):
    """Gated recurrent unit with 3x3 convolutions."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        self.convz, self.convr, self.convq = (nn.Conv2d(hidden + channels, hidden, 3, padding=1) for _ in range(3))

    def forward(self, hidden: Float[Tensor, "N hidden h w"], x: Float[Tensor, "N input h w"]) -> Float[Tensor, "N hidden h w"]:
        return _gru_step(hidden, x, self.convz, self.convr, self.convq)


class SeparableGru(nn.Module):
    """Two gated recurrent units in a row, one with 1x5, one with 5x1 convolutions."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        wide, tall = ((1, 5), (0, 2)), ((5, 1), (2, 0))
        self.convz1, self.convr1, self.convq1 = (nn.Conv2d(hidden + channels, hidden, k, padding=p) for k, p in [wide] * 3)
        self.convz2, self.convr2, self.convq2 = (nn.Conv2d(hidden + channels, hidden, k, padding=p) for k, p in [tall] * 3)

    def forward(self, hidden: Float[Tensor, "N hidden h w"], x: Float[Tensor, "N input h w"]) -> Float[Tensor, "N hidden h w"]:
        hidden = _gru_step(hidden, x, self.convz1, self.convr1, self.convq1)
        return _gru_step(hidden, x, self.convz2, self.convr2, self.convq2)


class FlowHead(nn.Module):
    """Hidden state to a change of flow, in cells."""

    def __init__(self, hidden: int, middle: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, middle, 3, padding=1)
        self.conv2 = nn.Conv2d(middle, 2, 3, padding=1)

    def forward(self, hidden: Float[Tensor, "N hidden h w"]) -> Float[Tensor, "N 2 h w"]:
        return self.conv2(F.relu(self.conv1(hidden)))


class Update(nn.Module):
    """One step of the recurrence: new hidden state and change of flow."""

    def __init__(self, size: RaftSize) -> None:
        super().__init__()
        widths = WIDTHS[size]
        if size is RaftSize.SMALL:
            self.encoder: nn.Module = SmallMotionEncoder(widths)
            self.gru: nn.Module = Gru(widths.hidden, widths.context + SmallMotionEncoder.channels)
            self.flow_head = FlowHead(widths.hidden, 128)
        else:
            self.encoder = LargeMotionEncoder(widths)
            self.gru = SeparableGru(widths.hidden, widths.context + LargeMotionEncoder.channels)
            self.flow_head = FlowHead(widths.hidden, 256)
            self.mask = nn.Sequential(nn.Conv2d(widths.hidden, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 9 * STRIDE**2, 1))

    def forward(
        self,
        hidden: Float[Tensor, "N hidden h w"],
        context: Float[Tensor, "N context h w"],
        correlation: Float[Tensor, "N c h w"],
        flow: Float[Tensor, "N 2 h w"],
    ) -> tuple[Float[Tensor, "N hidden h w"], Float[Tensor, "N 2 h w"]]:
        motion = self.encoder(flow, correlation)
        hidden = self.gru(hidden, torch.cat([context, motion], 1))
        return hidden, self.flow_head(hidden)


class Raft(nn.Module):
    """Optical flow between two images whose sides are multiples of 8, values in [-1, 1]."""

    def __init__(self, size: RaftSize) -> None:
        super().__init__()
        self.size, self.widths = size, WIDTHS[size]
        context_norm: Norm = no_norm if size is RaftSize.SMALL else nn.BatchNorm2d
        self.fnet = Encoder(size, self.widths.features, nn.InstanceNorm2d)
        self.cnet = Encoder(size, self.widths.hidden + self.widths.context, context_norm)
        self.update_block = Update(size)

    def forward(
        self,
        first: Float[Tensor, "N 3 H W"],
        second: Float[Tensor, "N 3 H W"],
        iterations: int,
        max_volume_bytes: int = 2**31,
        guess: Float[Tensor, "N 2 h w"] | None = None,
    ) -> Float[Tensor, "N 2 H W"]:
        """Flow in px from the first to the second image. guess: flow in cells to begin with instead of zero."""
        correlation = make_correlation(self.fnet(first), self.fnet(second), self.widths.radius, max_volume_bytes)
        hidden, context = self.cnet(first).split([self.widths.hidden, self.widths.context], 1)
        hidden, context = torch.tanh(hidden), F.relu(context)
        start = cell_positions(hidden)
        flow = torch.zeros_like(start) if guess is None else guess
        for _ in range(iterations):
            found = correlation.lookup(start + flow)
            hidden, change = self.update_block(hidden, context, found, flow)
            flow = flow + change
        if self.size is RaftSize.SMALL:
            return upsample_bilinear(flow)
        return upsample_convex(flow, 0.25 * self.update_block.mask(hidden))


def cell_positions(like: Float[Tensor, "N c h w"]) -> Float[Tensor, "N 2 h w"]:
    """(x, y) of every feature cell, counted from 0."""
    n, _, height, width = like.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).to(like).expand(n, 2, height, width)


def upsample_bilinear(flow: Float[Tensor, "N 2 h w"]) -> Float[Tensor, "N 2 H W"]:
    """Flow in cells to flow in px, corners on corners: what the small network was trained with."""
    return STRIDE * F.interpolate(flow, scale_factor=STRIDE, mode="bilinear", align_corners=True)


def upsample_convex(flow: Float[Tensor, "N 2 h w"], weights: Float[Tensor, "N 576 h w"]) -> Float[Tensor, "N 2 H W"]:
    """Every pixel's flow is a convex combination of the 3 x 3 cells around its own (section 3.3, "Upsampling")."""
    n, _, height, width = flow.shape
    share = weights.reshape(n, 1, 9, STRIDE, STRIDE, height, width).softmax(2)
    neighbours = F.unfold(STRIDE * flow, 3, padding=1).reshape(n, 2, 9, 1, 1, height, width)
    fine = (share * neighbours).sum(2)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(n, 2, STRIDE * height, STRIDE * width)
