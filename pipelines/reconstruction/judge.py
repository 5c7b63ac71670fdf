"""Can this motion be trusted? Evidence that a small reprojection error does not give.

Uncertainty: the Gauss-Newton matrix at the solution and the residual variance say how far the poses may move at no visible
cost (bas-relief: along a valley). Residuals of one track are not independent, so the variance is inflated.
Agreement: reconstructions from two separate halves of the object's tracks must show the same motion.
Rigidity: one rigid motion must fit the object's tracks about as well as the background's fits the background.
"""

from dataclasses import replace

import numpy as np

from pipelines.artifacts import ObjectModel, SfmStatus
from pipelines.geometry import align_rotations, rotation_angle_deg
from pipelines.reconstruction.bundle import GAUGE_FREEDOMS, Adjusted, adjust, exp_rotation, noise_px
from pipelines.reconstruction.grow import Grown, GrowOptions, place_points
from pipelines.reconstruction.sightings import Sightings

LEAST_ERROR_PX = 0.05
"""A median reprojection error as small as this is what flow gives at best."""
STILL_ERROR_PX = 0.15
"""The same of movers where the background is still: codecs repeat it exactly, but not what moves before it (at usual rates its
tracks had errors of 0 to 0.03 px, a rigid mover's 0.05 to 0.14 px)."""
STILL_PX = 2.0
"""A background whose tracks move less (median, whole clip) is still."""
BENT = 2.5
"""From this many times the background's median error on, an object's tracks are hardly those of one rigid body."""


def predicted_rotation_error_deg(adjusted: Adjusted, correlated_sightings: float, seed: int = 0, n_samples: int = 32) -> float:
    """Median rotation error (after alignment, DESIGN 8) that the residuals' noise lets one expect.

    correlated_sightings: how many sightings carry the information of one independent sighting.
    """
    sigma_px = noise_px(adjusted)
    values, vectors = np.linalg.eigh(adjusted.normal.matrix)
    n_pose = 6 * len(adjusted.normal.frames)
    values, vectors = values[GAUGE_FREEDOMS:], vectors[:n_pose, GAUGE_FREEDOMS:]
    spread = vectors / np.sqrt(np.maximum(values, 1e-12 * values[-1]))
    draws = np.random.default_rng(seed).normal(size=(n_samples, spread.shape[1]))
    steps = (draws @ spread.T).reshape(n_samples, -1, 6)[..., :3] * sigma_px * np.sqrt(correlated_sightings)
    rotations = adjusted.structure.cam_from_obj[adjusted.normal.frames, :3, :3]
    errors = []
    for step in steps:
        moved = exp_rotation(np.clip(step, -1, 1)) @ rotations
        aligned = moved @ align_rotations(moved, rotations)
        errors.append(np.median(rotation_angle_deg(np.swapaxes(aligned, 1, 2) @ rotations)))
    return float(np.mean(errors))


def halves_difference_deg(sightings: Sightings, grown: Grown, options: GrowOptions) -> float:
    """Median rotation between the motions refined from two halves of the tracks, cut by where the points lie on the object.

    Points are dealt to the halves in blocks (cells of the object's box), because neighbouring tracks share their errors. There
    is no motion prior, which would make the halves of two bodies agree.
    """
    points = grown.structure.points[grown.placed]
    low, high = np.percentile(points, [2, 98], axis=0)
    cell = np.floor(4 * (grown.structure.points - low) / np.maximum(high - low, 1e-9)).astype(int).sum(-1) % 2
    rotations = []
    for half in (0, 1):
        part = grown.placed & (cell == half)
        frames = grown.registered & ((sightings.seen & part).sum(1) >= 4)
        if part.sum() < 6 or frames.sum() < 3:
            return float("inf")
        structure, placed = place_points(sightings, grown.structure, frames, 3 * options.max_error_px)
        placed &= part
        if placed.sum() < 6:
            return float("inf")
        observed = sightings.observations(frames, placed)
        result = adjust(structure, observed, loss_px=options.loss_px, max_iterations=30)
        rotations.append((frames, result.structure.cam_from_obj[:, :3, :3]))
    common = rotations[0][0] & rotations[1][0]
    if common.sum() < 3:
        return float("inf")
    first, second = rotations[0][1][common], rotations[1][1][common]
    aligned = first @ align_rotations(first, second)
    return float(np.median(rotation_angle_deg(np.swapaxes(aligned, 1, 2) @ second)))


def beside_background(model: ObjectModel, background: ObjectModel) -> ObjectModel:
    """The model; doubtful where one rigid motion fits its tracks much worse than the background's fits the background."""
    errors = [m.quality.get("median_error_px") for m in (model, background)]
    if model.status is not SfmStatus.OK or errors[0] is None or errors[1] is None:
        return model
    is_still = background.status is SfmStatus.ASSUMED_DEPTH or _median_extent_px(background) < STILL_PX
    times = errors[0] / max(errors[1], STILL_ERROR_PX if is_still else LEAST_ERROR_PX)
    if times < BENT:
        return model
    than = "is usual before a still background" if is_still and errors[1] < STILL_ERROR_PX else "the background's"
    reason = (
        f"one rigid motion fits its tracks {times:.1f} times worse than {than}: it bends, or it is two objects that were taken "
        "for one"
    )
    return replace(model, status=SfmStatus.DOUBTFUL, reason=reason)


def _median_extent_px(model: ObjectModel) -> float:
    """Median over the points of the diagonal of the box that a point's sightings fill."""
    low, high = np.full((len(model.points), 2), np.inf), np.full((len(model.points), 2), -np.inf)
    np.minimum.at(low, model.obs_point, model.obs_xy_px)
    np.maximum.at(high, model.obs_point, model.obs_xy_px)
    return float(np.median(np.linalg.norm(high - low, axis=-1)))
