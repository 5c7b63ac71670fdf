"""Background that no frame shows, as a guess: behind moving objects, behind its own edges, and just outside the picture.

Nothing in the video speaks about such places, so in training they end up anywhere, mostly at infinity, and a camera that moves
aside looks through them. From the filmed cameras and cameras turned a little about what they look at, the guessed surfaces of
all frames are put together; what stays empty is filled from the sides (`filled`). Scales are judged with surfaces that were
trained on the guess, too; bounds that lean on them say so (`pipelines.scene.evidence`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy import ndimage
from torch import Tensor

from pipelines.artifacts import BACKGROUND
from pipelines.geometry import invert, pixel_centres, project, ray_directions, scaled_intrinsics, transform, turned_about_pivot
from pipelines.spread import evenly_spread

TURNS_DEG = ((0.0, 0.0), (-12.0, 0.0), (12.0, 0.0), (0.0, -6.0), (0.0, 6.0))
"""Azimuth and elevation of the cameras around each filmed one."""
MARGIN = 0.15
"""Share by which their pictures are wider and higher than the filmed ones, on either side."""
MOST_SOURCES, MOST_CAMERAS = 24, 12
"""Frames, evenly spread, whose surfaces are put together, and around which cameras are put."""
WIDTH_PX = 96
"""Width of a filmed picture at the resolution at which surfaces are put together: coarse, so that points leave no gaps."""
FAR_STEP = 0.15
"""Depths on the two sides of a hole that differ by more than this share belong to different surfaces."""


@dataclass(frozen=True)
class UnseenRays:
    """Rays into the unseen, in the background's frame and unit; directions have camera z = 1, so depth is z-depth."""

    origins: Float32[Tensor, "n 3"]
    directions: Float32[Tensor, "n 3"]
    depth: Float32[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.depth)

    def __getitem__(self, chosen: Tensor) -> "UnseenRays":
        return UnseenRays(self.origins[chosen], self.directions[chosen], self.depth[chosen])

    def to(self, device: torch.device) -> "UnseenRays":
        return UnseenRays(self.origins.to(device), self.directions.to(device), self.depth.to(device))


def unseen_rays(
    column: np.ndarray,
    guess: np.ndarray,
    intrinsics: Float[np.ndarray, "3 3"],
    cam_from_world: Float[np.ndarray, "T 4 4"],
    registered: Bool[np.ndarray, " T"],
) -> UnseenRays:
    """Rays on which the background was never seen, with a guessed depth.

    column, guess: scene columns and depth of the seen object, (T, h, w), at the size of `intrinsics`. No rays where nothing of
    the background is known.
    """
    posed = np.flatnonzero(registered)
    points = [_surface(column[t], guess[t], intrinsics, cam_from_world[t]) for t in evenly_spread(posed, MOST_SOURCES).tolist()]
    world = np.concatenate(points) if points else np.zeros((0, 3))
    origins, directions, depths = [np.zeros((0, 3))], [np.zeros((0, 3))], [np.zeros(0)]
    view_intrinsics, width, height = _wider(intrinsics, column.shape[2], column.shape[1])
    view_directions = ray_directions(view_intrinsics, pixel_centres(width, height))
    for t in evenly_spread(posed, MOST_CAMERAS).tolist():
        ahead = guess[t][(column[t] == BACKGROUND) & (guess[t] > 0)]
        for azimuth_deg, elevation_deg in TURNS_DEG if len(ahead) else ():
            turn = turned_about_pivot(float(np.median(ahead)), azimuth_deg, elevation_deg)
            world_from_view = invert(turn @ cam_from_world[t])
            depth = _nearest_depth(transform(invert(world_from_view), world), view_intrinsics, width, height)
            hole = ~np.isfinite(depth)
            if hole.all():
                continue
            origins.append(np.tile(world_from_view[:3, 3], (int(hole.sum()), 1)))
            directions.append(view_directions[hole] @ world_from_view[:3, :3].T)
            depths.append(filled(depth)[hole])
    return UnseenRays(*(torch.as_tensor(np.concatenate(part), dtype=torch.float32) for part in (origins, directions, depths)))


def _surface(
    column: np.ndarray, guess: np.ndarray, intrinsics: Float[np.ndarray, "3 3"], cam_from_world: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "n 3"]:
    """The background that one frame sees, as points of the world."""
    known = (column == BACKGROUND) & (guess > 0)
    height, width = column.shape
    directions = ray_directions(intrinsics, pixel_centres(width, height)[known])
    return transform(invert(cam_from_world), directions * guess[known][:, None].astype(float))


def _wider(intrinsics: Float[np.ndarray, "3 3"], width: int, height: int) -> tuple[Float[np.ndarray, "3 3"], int, int]:
    """Intrinsics and size of the cameras that look for unseen places."""
    factor = min(1.0, WIDTH_PX / width)
    coarse = scaled_intrinsics(intrinsics, factor, factor)
    margin_x, margin_y = round(MARGIN * width * factor), round(MARGIN * height * factor)
    coarse[:2, 2] += [margin_x, margin_y]
    return coarse, round(width * factor) + 2 * margin_x, round(height * factor) + 2 * margin_y


def _nearest_depth(
    points_cam: Float[np.ndarray, "n 3"], intrinsics: Float[np.ndarray, "3 3"], width: int, height: int
) -> Float[np.ndarray, "height width"]:
    """z-buffer of points, with a median filter; infinite where there is none."""
    depth = np.full((height, width), np.inf)
    front = points_cam[points_cam[:, 2] > 1e-9]
    x, y = np.floor(project(intrinsics, front)).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    np.minimum.at(depth, (y[inside].astype(int), x[inside].astype(int)), front[inside, 2])
    # Of single points that stray (outside the hull of a frame's reconstructed points the guess is poor) nothing is left.
    return ndimage.median_filter(depth, 5)


def filled(depth: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Holes (infinite depth) filled along rows; some depth must be known.

    Between like depths, inverse depth is interpolated linearly (exact on planes); otherwise the nearer surface ends there, and
    the deeper one goes on behind it. Beyond the outermost known pixel its depth goes on, or the row's median where that is
    deeper: a near surface at the picture's border mostly ends soon. Rows, because they mostly run along the ground; those
    without any depth take the next one's.
    """
    known = np.isfinite(depth)
    inverse = np.where(known, 1 / depth, 0.0)
    rows = np.flatnonzero(known.any(1))
    at = np.arange(depth.shape[1])
    for row in rows:
        ends = np.flatnonzero(known[row])
        place = np.searchsorted(ends, at)
        left, right = ends[np.maximum(place - 1, 0)], ends[np.minimum(place, len(ends) - 1)]
        left = np.where(place == 0, right, left)
        one, other = inverse[row, left], inverse[row, right]
        alike = np.maximum(one, other) <= (1 + FAR_STEP) * np.minimum(one, other)
        inside = np.where(alike, np.interp(at, ends, inverse[row, ends]), np.minimum(one, other))
        beyond = np.minimum(one, np.median(inverse[row, ends]))
        inverse[row] = np.where(known[row], inverse[row], np.where((at > ends[0]) & (at < ends[-1]), inside, beyond))
    nearest = rows[np.abs(np.arange(len(depth))[:, None] - rows).argmin(1)]
    return np.where(known, depth, 1 / inverse[nearest])
