"""RAFT as a function of two images. NumPy in, NumPy out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from third_party.raft.checkpoint import load_raft
from third_party.raft.network import STRIDE, Raft, RaftSize

MIN_SIDE_PX = 16 * STRIDE
"""Below this the coarsest correlation level would have a single cell."""

Image = UInt8[np.ndarray, "H W 3"]
FlowArray = Float32[np.ndarray, "H W 2"]
Estimate = Callable[[Image, Image, FlowArray | None], FlowArray]


def raft_estimator(
    path: Path, size: RaftSize, *, iterations: int, device: str | torch.device, max_volume_bytes: int
) -> Estimate:
    """A function from two RGB images (and a first guess, or None) to the flow in px, with the weights of `path`.

    max_volume_bytes: above this the correlation of all pairs is not kept, but computed at each look-up (slower).
    Raises UnavailableError: the file holds no RAFT weights of this size.
    """
    network = load_raft(path, size, device)

    @torch.inference_mode()
    def estimate(first: Image, second: Image, guess: FlowArray | None = None) -> FlowArray:
        start = None if guess is None else torch.from_numpy(guess).permute(2, 0, 1)[None].to(device)
        images = _input(first, device), _input(second, device)
        flow = padded_flow(network, *images, iterations, max_volume_bytes, start)
        return flow[0].permute(1, 2, 0).cpu().numpy()

    return estimate


def padded_flow(
    network: Raft,
    first: Float[Tensor, "N 3 H W"],
    second: Float[Tensor, "N 3 H W"],
    iterations: int,
    max_volume_bytes: int,
    start: Float[Tensor, "N 2 H W"] | None = None,
) -> Float[Tensor, "N 2 H W"]:
    """Flow of images of any size: edges are repeated up to multiples of 8, evenly on both sides.

    start: a first guess of the flow in px, which the recurrence begins with instead of zero.
    """
    height, width = first.shape[-2:]
    (left, right), (top, bottom) = _padding(width), _padding(height)

    def padded(values: Float[Tensor, "N c H W"]) -> Float[Tensor, "N c padded_H padded_W"]:
        return F.pad(values, (left, right, top, bottom), mode="replicate")

    cells = None if start is None else F.avg_pool2d(padded(start), STRIDE) / STRIDE
    flow = network(padded(first), padded(second), iterations, max_volume_bytes, cells)
    return flow[..., top : top + height, left : left + width]


def _padding(side: int) -> tuple[int, int]:
    total = max(MIN_SIDE_PX, -(-side // STRIDE) * STRIDE) - side
    return total // 2, total - total // 2


def _input(image: UInt8[np.ndarray, "H W 3"], device: str | torch.device) -> Float32[Tensor, "1 3 H W"]:
    values = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return values.permute(2, 0, 1)[None].float() / 127.5 - 1.0
