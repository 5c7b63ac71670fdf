"""A dense guess of depth from sparse points: where training starts, soon overruled by the images.

Within one object's mask, inverse depth is interpolated linearly between the frame's observed points: exact on planes, because
there inverse depth is linear in pixel coordinates. Outside their hull the nearest point's depth is taken.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float16, Int, UInt8
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial import QhullError

from pipelines.artifacts import UNKNOWN
from pipelines.geometry import pixel_centres


def depth_guess(
    column: UInt8[np.ndarray, "T h w"],
    frame: Int[np.ndarray, "m"],
    xy_px: Float[np.ndarray, "m 2"],
    obs_column: Int[np.ndarray, "m"],
    depth: Float[np.ndarray, "m"],
) -> Float16[np.ndarray, "T h w"]:
    """Depth of the seen object at every labelled pixel, in the object's own unit; 0 where the frame has no point of it.

    frame, xy_px, obs_column, depth: the observed points, pixels at the size of `column`.
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
                guess[t][seen] = 1 / _interpolated(xy_px[own], 1 / depth[own], centres_px[seen])
    return guess


def _present(column: UInt8[np.ndarray, "h w"]) -> Sequence[int]:
    return [int(k) for k in np.unique(column) if k != UNKNOWN]


def _interpolated(
    at: Float[np.ndarray, "m 2"], values: Float[np.ndarray, "m"], wanted: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n"]:
    nearest = NearestNDInterpolator(at, values)(wanted)
    try:
        inside = LinearNDInterpolator(at, values)(wanted)
    except QhullError:
        # Fewer than three points, or all on one line: there is nothing to interpolate between.
        return nearest
    return np.where(np.isfinite(inside), inside, nearest)
