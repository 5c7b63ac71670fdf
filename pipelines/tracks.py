"""Stage `tracks`: flow and labels to point tracks, each on one object.

At key frames, spread hierarchically over the clip, points are started wherever an object is thinly covered. Each is followed
both ways by flow and aligned with its reference patch in every frame, so it drifts neither over time nor over wide strides.
A point is dropped where the label of its nearest pixel is not its object's, or within a few pixels of an outline.
"""

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import Field

from pipelines.artifacts import Flow, Labels, Tracks, Video
from pipelines.stage import StageConfig, StageContext
from pipelines.tracking.patches import BLUR_PX, MAX_SHIFT_PX, MIN_CORRELATION, PATCH_RADIUS_PX


class TracksConfig(StageConfig):
    """Options of the stage `tracks`."""

    tracks_per_object: int = Field(700, ge=8)
    """Tracks wanted on each object in every key frame; a small object gets as many as its pixels allow."""
    min_spacing_px: float = Field(2.0, gt=0)
    """Tracks are never started closer than this."""
    key_stride_frames: int = Field(2, ge=1)
    """New tracks are started every so many frames."""
    min_track_frames: int = Field(4, ge=2)
    """Shorter tracks are dropped."""
    border_px: int = Field(2, ge=0)
    """No track nearer to an object's outline than this."""
    patch_radius_px: int = Field(PATCH_RADIUS_PX, ge=2)
    """Half the side of the patch that is aligned with the reference frame."""
    min_correlation: float = Field(MIN_CORRELATION, ge=-1, le=1)
    """A patch that matches its reference less well is not the same point."""
    max_shift_px: float = Field(MAX_SHIFT_PX, gt=0)
    """Alignment may move a point this far from where flow puts it."""
    max_spread_px: float = Field(0.35, gt=0)
    """Largest position uncertainty of an aligned patch: flat patches and straight edges exceed it."""
    blur_px: float = Field(BLUR_PX, ge=0)
    """Deviation of the smoothing before alignment."""


def key_frames(n_frames: int, stride: int) -> list[int]:
    """Every frame of the stride's grid and the last, coarse to fine: long tracks start in the middle of their life."""
    last = n_frames - 1
    grid = sorted({*range(0, n_frames, stride), last})
    ordered, waiting = [], [(0, len(grid) - 1)]
    while waiting:
        low, high = waiting.pop(0)
        if low > high:
            continue
        middle = (low + high) // 2
        ordered.append(grid[middle])
        waiting += [(low, middle - 1), (middle + 1, high)]
    return ordered


def build_tracks(config: TracksConfig, *, video: Video, flow: Flow, labels: Labels, context: StageContext) -> Tracks:
    """Follow points on every object through the clip. Writes and returns the tracks."""
    from pipelines.tracking.coverage import new_points
    from pipelines.tracking.follow import Clip, follow

    clip = Clip(video, flow, labels, config)
    keys = key_frames(video.n_frames, config.key_stride_frames)
    paths = [np.zeros((video.n_frames, 0, 2), np.float32)]
    ids = [np.zeros(0, np.uint8)]
    with context.progress.task("tracks", len(keys)) as advance:
        for key in keys:
            present_px = np.concatenate([path[key] for path in paths])
            seen = np.isfinite(present_px[:, 0])
            xy_px, object_id = new_points(
                clip.image(key),
                clip.inner(key),
                present_px[seen],
                np.concatenate(ids)[seen],
                tracks_wanted=config.tracks_per_object,
                min_spacing_px=config.min_spacing_px,
            )
            if len(xy_px):
                path, object_id = follow(clip, key, xy_px, object_id)
                long = np.isfinite(path[..., 0]).sum(0) >= config.min_track_frames
                paths.append(path[:, long])
                ids.append(object_id[long])
            advance(1)
    tracks = _listed(paths, ids)
    tracks.save(context.out)
    return tracks


def _listed(paths: list[Float32[np.ndarray, "T _ 2"]], ids: list[UInt8[np.ndarray, " _"]]) -> Tracks:
    """Dense paths as a list of observations, sorted by track and frame."""
    path = np.concatenate(paths, 1)
    track, frame = np.nonzero(np.isfinite(path[..., 0]).T)
    return Tracks(track, frame, path[frame, track].astype(np.float32), np.concatenate(ids))
