"""Where to start new tracks: on texture, evenly over each object, and densely where an object is small."""

import numpy as np
from jaxtyping import Float32, UInt8

from pipelines.artifacts import UNKNOWN


def spacing_px(area_px: int, tracks_wanted: int, min_spacing_px: float) -> float:
    """Side of the square cells, one track each, that fill an area with the wanted number of tracks."""
    return max(min_spacing_px, float(np.sqrt(area_px / tracks_wanted)))


def new_points(
    image: Float32[np.ndarray, "H W"],
    inner: UInt8[np.ndarray, "H W"],
    present_px: Float32[np.ndarray, "n 2"],
    present_id: UInt8[np.ndarray, " n"],
    *,
    tracks_wanted: int,
    min_spacing_px: float,
) -> tuple[Float32[np.ndarray, "m 2"], UInt8[np.ndarray, " m"]]:
    """In every cell that no track occupies, the pixel centre that is most like a corner.

    inner: labels with borders already turned unknown. present_px, present_id: the tracks seen in this frame.
    """
    import cv2

    corner = cv2.cornerMinEigenVal(image, 5)
    points, ids = [], []
    for k in np.unique(inner[inner != UNKNOWN]):
        rows, columns = np.nonzero(inner == k)
        spacing = spacing_px(len(rows), tracks_wanted, min_spacing_px)
        xy_px = np.stack([columns + 0.5, rows + 0.5], -1).astype(np.float32)
        n_columns = int(image.shape[1] // spacing) + 1
        cell = _cell(xy_px, spacing, n_columns)
        free = ~np.isin(cell, _cell(present_px[present_id == k], spacing, n_columns))
        # The last entry of each cell after sorting by cell, then strength, is its strongest pixel.
        order = np.lexsort((corner[rows, columns], cell))
        order = order[free[order]]
        last = np.flatnonzero(np.diff(cell[order], append=-1))
        points.append(xy_px[order[last]])
        ids.append(np.full(len(last), k, np.uint8))
    if not points:
        return np.zeros((0, 2), np.float32), np.zeros(0, np.uint8)
    return np.concatenate(points), np.concatenate(ids)


def _cell(xy_px: np.ndarray, spacing: float, n_columns: int) -> np.ndarray:
    return (xy_px[:, 1] // spacing).astype(int) * n_columns + (xy_px[:, 0] // spacing).astype(int)
