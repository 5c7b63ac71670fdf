"""From clustered tracks to crisp label maps.

Every object's motion is extended to a field of its own (`layers`). A pixel costs an object as much as the object's motion
contradicts the colours of other frames and the optical flow there; costs are smoothed along image edges and the lowest wins.
The first round knows only the tracks; the next ones know the maps, ask neighbouring frames for theirs, and know the colours of
each object: where motion says nothing (bare road, clear sky), what looks like an object's surroundings is not the object.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipelines.artifacts import Flow, Video
from pipelines.geometry import along_flow
from pipelines.segmentation.colours import ColourModels
from pipelines.segmentation.edge_filter import GuidedFilter
from pipelines.segmentation.grid_tracks import PointTracks
from pipelines.segmentation.layers import flow_confidence, layer_motion, photometric_cost
from pipelines.workers import in_threads, n_cores, one_opencv_thread


@dataclass(frozen=True)
class DenseOptions:
    """Sizes are in px of a frame whose longer side is 400 px, and grow with the frame."""

    strides: tuple[int, ...] = (1, 2, 4)
    rounds: int = 2
    colour_tolerance: float = 10.0
    """Colour difference (of 255) that counts as one unit of cost."""
    flow_tolerance_px: float = 0.7
    cap: float = 4.0
    window_px: float = 5.0
    sigma_tracks_px: float = 14.0
    sigma_labels_px: float = 8.0
    flow_weight: float = 0.6
    absence_weight: float = 1.5
    temporal_weight: float = 1.0
    guide_radius_px: float = 5.0
    guide_variance: float = 1e-3
    min_island_px: float = 60.0
    surroundings_px: float = 20.0
    """Width of the ring about an object whose colours are compared with its own."""
    colour_weight: float = 1.5
    background_prior: float = 0.2
    """Presence of the background everywhere, over that of objects where they are well seen: far from all tracks it wins."""


def dense_labels(
    video: Video,
    flow: Flow,
    tracks: PointTracks,
    label: Int[np.ndarray, " P"],
    options: DenseOptions,
    advance: Callable[[int], None],
) -> UInt8[np.ndarray, "T H W"]:
    """Label maps (0 ... G-1, as `label` numbers the groups; -1 marks tracks of no group)."""
    n_groups = int(label.max()) + 1
    size = max(video.width, video.height) / 400
    maps: UInt8[np.ndarray, "T H W"] | None = None
    colours: ColourModels | None = None
    image = lru_cache(2 * max(options.strides) + 4 * n_cores())(video.frame)

    def labelled(t: int) -> tuple[UInt8[np.ndarray, "H W"], Float[np.ndarray, "G H W"]]:
        """Frame t by what is known from the round before, and how surely its pixels are not the background's."""
        weights = _track_weights(tracks, label, n_groups, t, video) if maps is None else _label_weights(maps[t], n_groups)
        cost, decided = _frame_costs(image, flow, t, weights, maps, options, size, from_tracks=maps is None)
        if colours is not None:
            cost += options.colour_weight * (1 - decided) * colours.penalty(image(t))
        guided = GuidedFilter(image(t), max(1, round(options.guide_radius_px * size)), options.guide_variance)
        smooth = np.stack([guided(c) for c in cost])
        return without_islands(smooth.argmin(0).astype(np.uint8), round(options.min_island_px * size**2)), decided

    with one_opencv_thread():
        for _ in range(options.rounds):
            learned = ColourModels(n_groups, round(options.surroundings_px * size))
            fresh = np.zeros((video.n_frames, video.height, video.width), np.uint8)
            for t, (found, decided) in enumerate(in_threads(labelled, range(video.n_frames), n_cores())):
                fresh[t] = found
                learned.add(image(t), found, decided)
                advance(1)
            maps, colours = fresh, learned
    assert maps is not None
    return maps


def _track_weights(
    tracks: PointTracks, label: Int[np.ndarray, " P"], n_groups: int, t: int, video: Video
) -> Float[np.ndarray, "G H W"]:
    """1 at the pixel of each track."""
    weights = np.zeros((n_groups, video.height, video.width), np.float32)
    seen = tracks.visible[:, t] & (label >= 0)
    x, y = np.floor(tracks.xy_px[seen, t]).astype(int).T
    weights[label[seen], np.clip(y, 0, video.height - 1), np.clip(x, 0, video.width - 1)] = 1
    return weights


def _label_weights(labels: UInt8[np.ndarray, "H W"], n_groups: int) -> Float[np.ndarray, "G H W"]:
    """1 in the inside of each object: its edge is where the last round may be wrong, and where flow is smeared."""
    import cv2

    kernel = np.ones((5, 5), np.uint8)
    return np.stack([cv2.erode((labels == g).astype(np.uint8), kernel) for g in range(n_groups)]).astype(np.float32) + 1e-6 * (
        labels == np.arange(n_groups, dtype=np.uint8)[:, None, None]
    )


def _frame_costs(
    frame: Callable[[int], UInt8[np.ndarray, "H W 3"]],
    flow: Flow,
    t: int,
    weights: Float[np.ndarray, "G H W"],
    maps: UInt8[np.ndarray, "T H W"] | None,
    options: DenseOptions,
    size: float,
    *,
    from_tracks: bool,
) -> tuple[Float[np.ndarray, "G H W"], Float[np.ndarray, "G H W"]]:
    """How badly each pixel of frame t fits each object; and how surely (0 ... 1) it is not the background's."""
    import cv2

    image = frame(t)
    known = set(flow.pairs)
    others = [u for s in options.strides for u in (t - s, t + s) if (t, u) in known]
    n_groups = len(weights)
    sums = np.zeros((2, n_groups, *image.shape[:2]), np.float32)
    counts = np.zeros(2)
    temporal = np.zeros((n_groups, *image.shape[:2]), np.float32)
    confidence = flow_confidence(image)
    window_px = 2 * round(options.window_px * size / 2) + 1
    sigma = (options.sigma_tracks_px if from_tracks else options.sigma_labels_px) * size
    support = np.zeros((n_groups, *image.shape[:2]), np.float32)
    colour_sum = np.zeros((n_groups, *image.shape[:2]), np.float32)
    for u in others:
        flow_px, ok = flow.read(t, u)
        other = frame(u)
        direction = int(u > t)
        counts[direction] += 1
        for g in range(n_groups):
            layer = layer_motion(flow_px, weights[g] * ok, sigma)
            colour = photometric_cost(
                image, other, layer.flow_px, tolerance=options.colour_tolerance, cap=options.cap, window_px=window_px
            )
            gap = np.linalg.norm(flow_px - layer.flow_px, axis=-1) / options.flow_tolerance_px
            sums[direction, g] += colour + options.flow_weight * confidence * np.minimum(gap, options.cap)
            support[g] += layer.support
            colour_sum[g] += colour
        if maps is not None:
            there = cv2.remap(maps[u], *along_flow(flow_px), cv2.INTER_NEAREST, borderValue=255)
            for g in range(n_groups):
                temporal[g] += ok & (there != g) & (there != 255)
    sides = [sums[d] / counts[d] for d in (0, 1) if counts[d]]
    evidence = np.minimum(*sides) * 0.7 + 0.3 * (sides[0] + sides[1]) / 2 if len(sides) == 2 else sides[0]
    support[0] += options.background_prior * np.quantile(support.sum(0), 0.9)
    share = support / np.maximum(support.sum(0), 1e-9)
    cost = evidence + options.absence_weight * (1 - share)
    if maps is not None:
        cost += options.temporal_weight * temporal / len(others)
    decided = np.clip((colour_sum[0] - colour_sum) / len(others), 0, 1)
    return cost, decided


def without_islands(labels: UInt8[np.ndarray, "H W"], min_px: int) -> UInt8[np.ndarray, "H W"]:
    """Components smaller than `min_px` take the label of the nearest pixel outside of them."""
    import cv2
    from scipy.ndimage import distance_transform_edt

    small: Bool[np.ndarray, "H W"] = np.zeros(labels.shape, bool)
    for g in np.unique(labels):
        _, component, stats, _ = cv2.connectedComponentsWithStats((labels == g).astype(np.uint8), connectivity=4)
        tiny = stats[:, cv2.CC_STAT_AREA] < min_px
        tiny[0] = False
        small |= tiny[component]
    if not small.any() or small.all():
        return labels
    nearest = distance_transform_edt(small, return_distances=False, return_indices=True)
    return labels[tuple(nearest)]
