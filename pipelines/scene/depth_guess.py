"""A dense guess of depth from sparse points: where training starts, and what holds surfaces that images say little about.

Within one object's mask, inverse depth is interpolated linearly between the frame's observed points: exact on planes, because
there inverse depth is linear in pixel coordinates. Outside their hull the nearest point's depth is taken; between points of
very different depth, where the surface most likely jumps, nothing is guessed.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float16, Int, UInt8
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial import Delaunay, QhullError

from pipelines.artifacts import UNKNOWN
from pipelines.geometry import pixel_centres


def depth_guess(
    column: UInt8[np.ndarray, "T h w"],
    frame: Int[np.ndarray, " m"],
    xy_px: Float[np.ndarray, "m 2"],
    obs_column: Int[np.ndarray, " m"],
    depth: Float[np.ndarray, " m"],
    max_step: float = 0.15,
) -> Float16[np.ndarray, "T h w"]:
    """Depth of the seen object at every labelled pixel, in the object's own unit; 0 where the frame has no point of it,
    or points that differ too much.

    frame, xy_px, obs_column, depth: the observed points, pixels at the size of `column`.
    max_step: largest share by which the depths of the points around a pixel may differ.
    """
    guess = np.zeros(column.shape, np.float16)
    order = np.argsort(frame, kind="stable")
    per_frame = np.split(order, np.searchsorted(frame[order], np.arange(1, len(column))))
    centres_px = pixel_centres(column.shape[2], column.shape[1])
    for t, rows in enumerate(per_frame):
        for k in _present(column[t]):
            own = rows[obs_column[rows] == k]
            seen = column[t] == k
            if len(own):
                guess[t][seen] = _interpolated(xy_px[own], depth[own], centres_px[seen], max_step)
    return guess


def _present(column: UInt8[np.ndarray, "h w"]) -> Sequence[int]:
    return [int(k) for k in np.unique(column) if k != UNKNOWN]


def _interpolated(
    at: Float[np.ndarray, "m 2"], depth: Float[np.ndarray, " m"], wanted: Float[np.ndarray, "n 2"], max_step: float
) -> Float[np.ndarray, " n"]:
    nearest = NearestNDInterpolator(at, depth)(wanted)
    try:
        triangles = Delaunay(at)
    except QhullError:
        # Fewer than three points, or all on one line: there is nothing to interpolate between.
        return nearest
    inside = triangles.find_simplex(wanted)
    bridging = bridging_triangles(triangles, 1 / depth, max_step)[inside]
    smooth = 1 / LinearNDInterpolator(triangles, 1 / depth)(wanted)
    return np.where(inside < 0, nearest, np.where(bridging, 0.0, smooth))


def bridging_triangles(triangles: Delaunay, values: Float[np.ndarray, " m"], max_step: float) -> Bool[np.ndarray, " triangles"]:
    """Triangles that span a jump of a piecewise linear function: they are steep, and going on across an edge misses.

    max_step: largest share by which values in a triangle may differ, or a neighbour's corner may miss the triangle's plane.
    A steep plane alone is no jump: there the neighbours' corners lie on it.
    """
    corners = values[triangles.simplices]
    steep = corners.max(1) > (1 + max_step) * corners.min(1)
    misses = np.zeros(len(corners), bool)
    for side in range(3):
        neighbour = triangles.neighbors[:, side]
        theirs = triangles.simplices[neighbour]
        shared = (theirs[:, :, None] == triangles.simplices[:, None, :]).any(-1)
        opposite = theirs[np.arange(len(theirs)), shared.argmin(1)]
        affine = triangles.transform
        first = np.einsum("nij,nj->ni", affine[:, :2], triangles.points[opposite] - affine[:, 2])
        barycentric = np.column_stack([first, 1 - first.sum(1)])
        expected = (barycentric * corners).sum(1)
        with np.errstate(invalid="ignore"):
            misses |= (neighbour >= 0) & (np.abs(expected - values[opposite]) > max_step * values[opposite])
    return steep & misses
