"""Points followed through the video by chaining adjacent flow: the raw material of motion clustering.

Tracks start on a regular grid wherever no living track is near, and end where flow is inconsistent or leaves the image.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.artifacts import Flow
from pipelines.geometry import pixel_centres


@dataclass(frozen=True)
class PointTracks:
    """P points over T frames; positions are meaningful (finite) only where visible."""

    xy_px: Float[np.ndarray, "P T 2"]
    visible: Bool[np.ndarray, "P T"]

    def chosen(self, which: Int[np.ndarray, " p"] | Bool[np.ndarray, " P"]) -> "PointTracks":
        return PointTracks(self.xy_px[which], self.visible[which])


def chain(flow: Flow, *, n_frames: int, width: int, height: int, spacing_px: float, min_frames: int) -> PointTracks:
    """Tracks of at least `min_frames` frames, on a grid of the given spacing that is refilled in every frame."""
    alive: list[tuple[int, Float[np.ndarray, "n 2"]]] = []
    done: list[tuple[int, Float[np.ndarray, "n 2"]]] = []
    for t in range(n_frames):
        heads = np.array([points[-1] for _, points in alive]).reshape(-1, 2)
        fresh = _free_grid_points(heads, width=width, height=height, spacing_px=spacing_px)
        alive += [(t, point[None]) for point in fresh]
        if t + 1 == n_frames:
            break
        heads = np.concatenate([heads, fresh])
        flow_px, ok = flow.read(t, t + 1)
        moved, good = follow(heads, flow_px, ok)
        done += [track for track, kept in zip(alive, good, strict=True) if not kept]
        alive = [(start, np.concatenate([points, moved[i : i + 1]])) for i, (start, points) in enumerate(alive) if good[i]]
    tracks = [track for track in done + alive if len(track[1]) >= min_frames]
    xy_px = np.full((len(tracks), n_frames, 2), np.nan)
    for i, (start, points) in enumerate(tracks):
        xy_px[i, start : start + len(points)] = points
    return PointTracks(xy_px, np.isfinite(xy_px[..., 0]))


def follow(
    xy_px: Float[np.ndarray, "n 2"], flow_px: Float[np.ndarray, "H W 2"], ok: Bool[np.ndarray, "H W"]
) -> tuple[Float[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    """Where points go, and which of them went on consistent flow and stayed in the image. Flow is read bilinearly."""
    height, width = ok.shape
    corner = np.floor(xy_px - 0.5).astype(int)
    share = xy_px - 0.5 - corner
    moved = np.zeros_like(xy_px)
    good = np.ones(len(xy_px), bool)
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = np.clip(corner[:, 0] + dx, 0, width - 1), np.clip(corner[:, 1] + dy, 0, height - 1)
            weight = np.abs(1 - dx - share[:, 0]) * np.abs(1 - dy - share[:, 1])
            moved += weight[:, None] * flow_px[y, x]
            good &= ok[y, x] | (weight < 1e-6)
    moved += xy_px
    return moved, good & (moved >= 0.5).all(1) & (moved[:, 0] <= width - 0.5) & (moved[:, 1] <= height - 0.5)


def _free_grid_points(
    heads: Float[np.ndarray, "n 2"], *, width: int, height: int, spacing_px: float
) -> Float[np.ndarray, "m 2"]:
    """Centres of the grid's cells without a living track."""
    columns, rows = max(1, round(width / spacing_px)), max(1, round(height / spacing_px))
    cell_px = np.array([width / columns, height / rows])
    taken = np.zeros((rows, columns), bool)
    cell = np.clip((heads / cell_px).astype(int), 0, [columns - 1, rows - 1])
    taken[cell[:, 1], cell[:, 0]] = True
    return pixel_centres(columns, rows)[~taken] * cell_px
