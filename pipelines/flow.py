"""Stage `flow`: dense optical flow between the frames of a video, checked forward against backward.

Symbols: frame t, frame u = t + stride; forward flow f takes pixel p of frame t to p + f(p) in frame u, backward flow b returns.
Flow is in px of the video's full size, whatever size it was computed at. Pixel centres follow `pipelines.geometry`: a flow
vector is a difference of positions, so only the look-up of b at p + f(p) depends on the convention.

Wide strides start from the chain of the adjacent flows between their frames: coarse-to-fine search alone loses small objects
that move by more than their own size.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, assert_never

import numpy as np
from jaxtyping import Bool, Float, UInt8
from pydantic import Field, field_validator

from pipelines.artifacts import Flow, Video
from pipelines.errors import InputError
from pipelines.geometry import along_flow
from pipelines.stage import StageConfig, StageContext
from pipelines.workers import in_threads, n_cores, one_opencv_thread

DIS_PATCH_PX = 6
DIS_PATCH_STRIDE_PX = 2
POLISH_SCALE = 1
"""DIS that only polishes searches from half the resolution on, so it cannot leave its start by much."""

Flow32 = Float[np.ndarray, "H W 2"]
Estimator = Callable[[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"], Flow32 | None], Flow32]
"""Flow in px from the first RGB image to the second, refined from a first guess where there is one. Thread-safe."""


class FlowMethod(StrEnum):
    """DIS needs no weights; RAFT pays on large motion and hard footage."""

    DIS = "dis"
    RAFT_SMALL = "raft-small"
    RAFT_LARGE = "raft-large"


class FlowConfig(StageConfig):
    """How flow is computed, and between which frames."""

    method: FlowMethod = FlowMethod.DIS
    strides: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 4, 8)
    """Frame distances; 1 is always among them. Adjacent frames carry tracks; wider ones check drift, bridge occlusions and show
    slow motion."""
    starts_per_stride: Annotated[int, Field(ge=1)] = 2
    """A stride of n starts at every (n / starts_per_stride)-th frame (at least every frame), which bounds time and disk."""
    consistency_relative: Annotated[float, Field(ge=0)] = 0.01
    """a in |f + b|^2 <= a (|f|^2 + |b|^2) + b."""
    consistency_px2: Annotated[float, Field(gt=0)] = 0.5
    """b in the same rule, in px^2."""
    max_side_px: Annotated[int, Field(ge=64)] = 1920
    """Larger frames are shrunk to this before flow is computed, and the flow is brought back to full size."""
    weights: Path | None = None
    """RAFT's weights; looked for in the usual places when not given."""
    raft_iterations: Annotated[int, Field(ge=1)] = 20
    raft_double_below_px: Annotated[int, Field(ge=0)] = 640
    """Frames whose longer side is below this are doubled for RAFT, whose features have an eighth of the resolution."""
    raft_refine: bool = True
    """DIS polishes RAFT's flow on the full resolution, from RAFT's result on: several times more accurate on clean footage."""
    raft_volume_mb: Annotated[int, Field(ge=1)] = 1500
    """RAFT's correlation volume is kept up to this size, and computed anew at every look-up (slower) above it."""

    @field_validator("strides")
    @classmethod
    def _sorted_once(cls, strides: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted({1, *strides}))


def compute_flow(config: FlowConfig, *, video: Video, context: StageContext) -> Flow:
    """Flow of all chosen frame pairs in both directions, with consistency masks, written pair by pair into `context.out`.

    Only a few frames and the pairs being worked on are ever in memory.

    Raises
        InputError: the video has fewer than two frames.
        MissingDependencyError: RAFT's weights are not there, or are others.
    """
    if video.n_frames < 2:
        raise InputError(f"{video.source} has {video.n_frames} frame(s), flow needs at least 2: give a longer clip")
    forward_pairs = list(frame_pairs(config, video.n_frames))
    both_ways = sorted([*forward_pairs, *((u, t) for t, u in forward_pairs)])
    flow = Flow(context.out, tuple(both_ways))
    estimate, n_workers = _estimator(config, context.device)
    size = working_size(config, video.width, video.height)
    frame = lru_cache(maxsize=max(config.strides) + 2 * n_workers)(lambda t: _resized(video.frame(t), size))

    def compute(t: int, u: int) -> Flow32:
        guess = resized_flow(chained(flow, t, u), *size) if abs(u - t) > 1 and 1 in config.strides else None
        return resized_flow(estimate(frame(t), frame(u), guess), video.width, video.height)

    def compute_pair(pair: tuple[int, int]) -> None:
        t, u = pair
        forward, backward = compute(t, u), compute(u, t)
        rule = (config.consistency_relative, config.consistency_px2)
        flow.write(t, u, forward, consistent(forward, backward, *rule))
        flow.write(u, t, backward, consistent(backward, forward, *rule))

    adjacent = [(t, u) for t, u in forward_pairs if u - t == 1]
    wide = [(t, u) for t, u in forward_pairs if u - t > 1]
    with one_opencv_thread(), context.progress.task("flow", len(forward_pairs)) as advance:
        for pairs in (adjacent, wide):
            for _ in in_threads(compute_pair, pairs, n_workers):
                advance(1)
    flow.save()
    return flow


def frame_pairs(config: FlowConfig, n_frames: int) -> Iterator[tuple[int, int]]:
    """Pairs t < u, in the order in which their frames appear."""
    for t in range(n_frames):
        for stride in config.strides:
            every = max(1, stride // config.starts_per_stride)
            if t % every == 0 and t + stride < n_frames:
                yield t, t + stride


def consistent(
    forward: Float[np.ndarray, "H W 2"], backward: Float[np.ndarray, "H W 2"], relative: float, absolute_px2: float
) -> Bool[np.ndarray, "H W"]:
    """Where going forward and back returns to the start: |f + b|^2 <= relative (|f|^2 + |b|^2) + absolute.

    Occluded pixels, and pixels that leave the frame, are not consistent.
    Source: Sundaram, Brox, Keutzer, "Dense Point Trajectories by GPU-Accelerated Large Displacement Optical Flow"
    (ECCV 2010), equation 5.
    """
    import cv2

    forward, backward = forward.astype(np.float32), backward.astype(np.float32)
    height, width = forward.shape[:2]
    to_column, to_row = along_flow(forward)
    returned = cv2.remap(backward, to_column, to_row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (to_column >= -0.5) & (to_column <= width - 0.5) & (to_row >= -0.5) & (to_row <= height - 0.5)
    gap = np.square(forward + returned).sum(-1)
    allowed = relative * (np.square(forward).sum(-1) + np.square(returned).sum(-1)) + absolute_px2
    return np.asarray(inside & (gap <= allowed))


def working_size(config: FlowConfig, width: int, height: int) -> tuple[int, int]:
    """Width and height at which flow is computed: shrunk in proportion to `max_side_px`."""
    factor = min(1.0, config.max_side_px / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def chained(flow: Flow, t: int, u: int) -> Flow32:
    """Follow the adjacent flows from frame t to frame u: the flow of each to the next, looked up where the last one ends."""
    import cv2

    step = 1 if u > t else -1
    total, _ = flow.read(t, t + step)
    for via in range(t + step, u, step):
        onwards, _ = flow.read(via, via + step)
        total = total + cv2.remap(onwards, *along_flow(total), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return total


def resized_flow(flow_px: Float[np.ndarray, "h w 2"], width: int, height: int) -> Flow32:
    """Flow brought to frames of another size, in px of that size."""
    import cv2

    before = flow_px.shape[1], flow_px.shape[0]
    if before == (width, height):
        return flow_px
    factor = np.array([width / before[0], height / before[1]], np.float32)
    # Enlarging interpolates; shrinking averages.
    interpolation = cv2.INTER_LINEAR if before[0] < width else cv2.INTER_AREA
    return cv2.resize(flow_px, (width, height), interpolation=interpolation) * factor


def dis_estimator(coarsest_scale: int | None = None) -> Estimator:
    """OpenCV's DIS flow, refined on the full resolution, which the presets skip: 3 to 5 times more accurate.

    Smaller and denser patches than the preset's keep more of small objects.
    coarsest_scale: halvings of the image at which the search begins (by the image's size when not given).
    Source: Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search" (ECCV 2016).
    """
    import cv2

    def estimate(first: UInt8[np.ndarray, "H W 3"], second: UInt8[np.ndarray, "H W 3"], guess: Flow32 | None) -> Flow32:
        # One solver per call: it keeps its pyramids between calls, so it cannot be shared by threads.
        solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        solver.setFinestScale(0)
        solver.setPatchSize(DIS_PATCH_PX)
        solver.setPatchStride(DIS_PATCH_STRIDE_PX)
        if coarsest_scale is not None:
            solver.setCoarsestScale(coarsest_scale)
        grey = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
        # The solver writes into the guess.
        return solver.calc(*grey, None if guess is None else np.array(guess, np.float32))

    return estimate


def raft_estimator(config: FlowConfig, device: str) -> Estimator:
    """RAFT of the chosen size, with weights from this machine; small frames are doubled, and DIS polishes the result.

    Raises MissingDependencyError: the weights are not there, or are others.
    """
    from pipelines import dependencies
    from third_party import weights
    from third_party.raft import estimator
    from third_party.raft.network import RaftSize

    size = RaftSize.SMALL if config.method is FlowMethod.RAFT_SMALL else RaftSize.LARGE
    with dependencies.third_party():
        raft = estimator.raft_estimator(
            weights.find(config.method, config.weights),
            size,
            iterations=config.raft_iterations,
            device=device,
            max_volume_bytes=config.raft_volume_mb * 10**6,
        )
    polish = dis_estimator(POLISH_SCALE) if config.raft_refine else None

    def estimate(first: UInt8[np.ndarray, "H W 3"], second: UInt8[np.ndarray, "H W 3"], guess: Flow32 | None) -> Flow32:
        height, width = first.shape[:2]
        factor = 2 if max(width, height) < config.raft_double_below_px else 1
        large = width * factor, height * factor
        start = None if guess is None else resized_flow(guess, *large)
        flow_px = resized_flow(raft(_resized(first, large), _resized(second, large), start), width, height)
        return flow_px if polish is None else polish(first, second, flow_px)

    return estimate


def _estimator(config: FlowConfig, device: str) -> tuple[Estimator, int]:
    """The flow method, and from how many threads it may profitably be called (torch uses all cores by itself)."""
    match config.method:
        case FlowMethod.DIS:
            return dis_estimator(), n_cores()
        case FlowMethod.RAFT_SMALL | FlowMethod.RAFT_LARGE:
            return raft_estimator(config, device), 1
        case _:
            assert_never(config.method)


def _resized(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    import cv2

    if (image.shape[1], image.shape[0]) == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_CUBIC)
