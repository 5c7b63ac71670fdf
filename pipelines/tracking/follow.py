"""Follow points from their reference frame, forward and backward: flow predicts, the reference patch decides.

A point's position in every frame is aligned with its patch in ONE frame, the reference, so errors do not add up over time.
Flow over wide strides carries a point across a short occlusion: the newest frame in which it was seen predicts the next.
"""

from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, Int, UInt8

from pipelines.artifacts import UNKNOWN, Flow, Labels, Video
from pipelines.tracking.patches import Templates, align, make_templates, smoothed_brightness

if TYPE_CHECKING:
    from pipelines.tracks import TracksConfig

MOST_CACHED_BYTES = 400_000_000
"""For images; labels take a quarter more."""


class Clip:
    """A video's frames, flow and labels, read on demand and kept while they are in use."""

    def __init__(self, video: Video, flow: Flow, labels: Labels, config: "TracksConfig"):
        self.n_frames, self.config = video.n_frames, config
        self._video, self._flow, self._labels = video, flow, labels
        self._pairs = frozenset(flow.pairs)
        self.strides = sorted({abs(u - t) for t, u in flow.pairs})
        # Points are followed through the whole clip and back, from one key frame after another: a cache pays if all of it fits.
        kept = min(video.n_frames, MOST_CACHED_BYTES // (4 * video.width * video.height))
        self.image = lru_cache(maxsize=max(kept, 8))(self._image)
        self.inner = lru_cache(maxsize=max(kept, 8))(self._inner)
        self._places = cache(flow.places)

    def _image(self, t: int) -> Float32[np.ndarray, "H W"]:
        return smoothed_brightness(self._video.frame(t), self.config.blur_px)

    def flow(self, t: int, u: int) -> tuple[Float16[np.ndarray, "H W 2"], UInt8[np.ndarray, "H B"]]:
        """Flow and its bits of consistency, on disk: of each pair few pixels are looked at, but from every key frame again."""
        return self._flow.mapped(t, u, self._places(t, u))

    def labels(self, t: int) -> UInt8[np.ndarray, "H W"]:
        return self._labels.maps[t]

    def _inner(self, t: int) -> UInt8[np.ndarray, "H W"]:
        """Labels with everything nearer than the border width to another label turned unknown."""
        import cv2

        labels = self._labels.maps[t]
        kernel = np.ones((2 * self.config.border_px + 1,) * 2, np.uint8)
        same = cv2.erode(labels, kernel) == cv2.dilate(labels, kernel)
        return np.where(same, labels, np.uint8(UNKNOWN))

    def predecessors(self, t: int, direction: int) -> list[int]:
        """Frames from which flow leads to t when walking in `direction` (+1 or -1), the nearest first."""
        before = [t - direction * stride for stride in self.strides]
        return [p for p in before if (p, t) in self._pairs]


def label_at(labels: UInt8[np.ndarray, "H W"], xy_px: Float32[np.ndarray, "n 2"]) -> UInt8[np.ndarray, " n"]:
    """Label of the pixel that holds each point; unknown outside the image. Labels are never interpolated."""
    height, width = labels.shape
    column, row = np.floor(xy_px[:, 0]).astype(int), np.floor(xy_px[:, 1]).astype(int)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    return np.where(inside, labels[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)], np.uint8(UNKNOWN))


def flow_at(
    flow_px: Float[np.ndarray, "H W 2"], ok: UInt8[np.ndarray, "H B"], xy_px: Float32[np.ndarray, "n 2"]
) -> tuple[Float32[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    """Bilinear flow at sub-pixel positions, and whether all four pixels that it mixes are consistent (ok: bits, as on disk)."""
    height, width = flow_px.shape[:2]
    x = np.clip(xy_px[:, 0] - 0.5, 0, width - 1)
    y = np.clip(xy_px[:, 1] - 0.5, 0, height - 1)
    column, row = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    fx, fy = (x - column)[:, None], (y - row)[:, None]
    top = flow_px[row, column] * (1 - fx) + flow_px[row, column + 1] * fx
    bottom = flow_px[row + 1, column] * (1 - fx) + flow_px[row + 1, column + 1] * fx
    corners = [_bit(ok, row + dy, column + dx) for dy in (0, 1) for dx in (0, 1)]
    return (top * (1 - fy) + bottom * fy).astype(np.float32), np.all(corners, axis=0)


def _bit(packed: UInt8[np.ndarray, "H B"], row: Int[np.ndarray, " n"], column: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Pixels of a map whose rows were packed by `np.packbits`."""
    return (packed[row, column // 8] >> (7 - column % 8)) & 1 == 1


def follow(
    clip: Clip, reference: int, xy_px: Float32[np.ndarray, "n 2"], object_id: UInt8[np.ndarray, " n"]
) -> tuple[Float32[np.ndarray, "T m 2"], UInt8[np.ndarray, " m"]]:
    """Positions through the whole clip (NaN where not seen) of those points whose reference patch can be aligned.

    At least one point is needed.
    """
    config = clip.config
    templates, chosen = _templates(clip, reference, xy_px, object_id)
    xy_px, object_id = xy_px[chosen], object_id[chosen]
    path = np.full((clip.n_frames, len(xy_px), 2), np.nan, np.float32)
    path[reference] = xy_px
    for direction in (1, -1):
        affine = np.tile(np.eye(2, dtype=np.float32), (len(xy_px), 1, 1))
        last = np.full(len(xy_px), reference)
        t = reference + direction
        while 0 <= t < clip.n_frames and np.any(np.abs(t - last) <= clip.strides[-1]):
            predicted, known = _predict(clip, t, direction, path)
            candidates = np.flatnonzero(known & (label_at(clip.inner(t), predicted) == object_id))
            centres, warps, correlation = align(
                templates.where(candidates), clip.image(t), predicted[candidates], affine[candidates]
            )
            moved_px = np.linalg.norm(centres - predicted[candidates], axis=-1)
            kept = (correlation > config.min_correlation) & (moved_px < config.max_shift_px)
            kept &= label_at(clip.inner(t), centres) == object_id[candidates]
            kept &= templates.spread_px[candidates] * np.sqrt(np.maximum(1 - correlation, 0)) < config.max_spread_px
            index = candidates[kept]
            path[t, index], affine[index], last[index] = centres[kept], warps[kept], t
            t += direction
    return path, object_id


def _templates(
    clip: Clip, reference: int, xy_px: Float32[np.ndarray, "n 2"], object_id: UInt8[np.ndarray, " n"]
) -> tuple[Templates, np.ndarray]:
    """Reference patches of all points, each cut at its object's outline, and the indices of the points that they belong to."""
    made, chosen = [], []
    for k in np.unique(object_id):
        index = np.flatnonzero(object_id == k)
        templates, good = make_templates(
            clip.image(reference), clip.labels(reference) == k, xy_px[index], clip.config.patch_radius_px
        )
        good &= templates.spread_px < 10 * clip.config.max_spread_px
        made.append(templates.where(good))
        chosen.append(index[good])
    fields = ("weight", "brightness", "steepest", "inverse", "spread_px")
    stacked = {name: np.concatenate([getattr(t, name) for t in made]) for name in fields}
    return Templates(offsets=made[0].offsets, **stacked), np.concatenate(chosen)


def _predict(clip: Clip, t: int, direction: int, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where flow says that each point is in frame t, and whether any consistent flow says so."""
    predicted = np.zeros(path.shape[1:], np.float32)
    known = np.zeros(path.shape[1], bool)
    for p in clip.predecessors(t, direction):
        index = np.flatnonzero(~known & np.isfinite(path[p, :, 0]))
        if not len(index):
            continue
        flow_px, ok = flow_at(*clip.flow(p, t), path[p, index])
        predicted[index[ok]] = (path[p, index] + flow_px)[ok]
        known[index[ok]] = True
    return predicted, known
