"""Objects that the segmentation left in pieces: what moves as another object does is a part of it.

Over a few frames, or with few tracks, the motion segmentation can't tell. The reconstructions can: the poses of one object
explain another's sightings as well as its own poses do only if the two are one rigid body. (On twelve synthetic scenes the
error under another's poses was 1.3 times the own one for a piece, and 8.5 times at least for another body.)
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from pipelines.artifacts import BACKGROUND, ObjectModel, SfmStatus
from pipelines.reconstruction.bundle import Observations, Structure, reproject
from pipelines.reconstruction.judge import LEAST_ERROR_PX
from pipelines.reconstruction.sightings import triangulate

SAME_BODY = 2.0
"""Up to this many times its own error a piece may be off under the poses of its body."""
MIN_COMMON_FRAMES = 6
MIN_COMMON_SHARE = 0.8
"""Of the piece's frames: what is carried for a while and left behind is no piece."""
MIN_POINTS = 8


def body_of(
    piece: ObjectModel, others: Sequence[ObjectModel], focal_px: float, principal_px: Float[np.ndarray, "2"]
) -> int | None:
    """Id of the one among `others` whose motion is the piece's too; None when it moves on its own."""
    found = {other.object_id: misfit_under(piece, other, focal_px, principal_px) for other in others}
    best = min(found, key=lambda k: found[k], default=None)
    return best if best is not None and found[best] <= SAME_BODY else None


def misfit_under(piece: ObjectModel, other: ObjectModel, focal_px: float, principal_px: Float[np.ndarray, "2"]) -> float:
    """Median error of the piece's sightings under the other's poses over that under its own; infinite when it can't be told.

    Points are triangulated anew in either case, from the frames in which both are registered.
    """
    common = piece.registered & other.registered
    if common.sum() < max(MIN_COMMON_FRAMES, MIN_COMMON_SHARE * piece.registered.sum()):
        return float("inf")
    rows = common[piece.obs_frame]
    rows &= np.bincount(piece.obs_point[rows], minlength=len(piece.points))[piece.obs_point] >= 3
    ids, point = np.unique(piece.obs_point[rows], return_inverse=True)
    if len(ids) < MIN_POINTS:
        return float("inf")
    observed = Observations(piece.obs_frame[rows], point, piece.obs_xy_px[rows] - principal_px)
    error_px = [_median_error_px(observed, model.cam_from_obj, len(ids), focal_px) for model in (other, piece)]
    return error_px[0] / max(error_px[1], LEAST_ERROR_PX)


def _median_error_px(observed: Observations, cam_from_obj: Float[np.ndarray, "T 4 4"], n_points: int, focal_px: float) -> float:
    structure = Structure(cam_from_obj, np.zeros((n_points, 3)), focal_px)
    points, spread = triangulate(observed, structure, n_points)
    residual, depth = reproject(replace(structure, points=points), observed)
    error = np.where((depth > 0) & (spread[observed.point] > 0), np.linalg.norm(residual, axis=-1), np.inf)
    return float(np.median(error))


def bodies_of(
    models: Sequence[ObjectModel], sizes: Sequence[int], focal_px: float, principal_px: Float[np.ndarray, "2"]
) -> dict[int, int]:
    """The body of every piece. A body is larger than its pieces (`sizes`: pixels of each object), and no piece itself."""
    ordered = sorted((m for m in models[1:] if m.usable), key=lambda m: -sizes[m.object_id])
    # Under a camera that only turns the background's poses explain whatever is far away.
    whole = [models[BACKGROUND]] if models[BACKGROUND].status is SfmStatus.OK else []
    found: dict[int, int] = {}
    for model in ordered:
        body = body_of(model, whole, focal_px, principal_px)
        if body is None:
            whole.append(model)
        else:
            found[model.object_id] = body
    return found


def as_piece(model: ObjectModel, body: int, name: str) -> ObjectModel:
    """The outcome of an object that was joined with its body."""
    reason = f"moves as {name} does: a part of it, and joined with it"
    failed = ObjectModel.failed(model.object_id, SfmStatus.PIECE, reason, len(model.registered))
    return replace(failed, piece_of=body, quality=model.quality)
