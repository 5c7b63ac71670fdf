"""Can this motion be trusted? Evidence that a small reprojection error does not give.

Uncertainty: the Gauss-Newton matrix at the solution and the residual variance say how far the poses may move at no visible
cost (bas-relief: along a valley). Residuals of one track are not independent, so the variance is inflated.
Agreement: reconstructions from two separate halves of the object's tracks must show the same motion.
"""

import numpy as np

from pipelines.geometry import align_rotations, rotation_angle_deg
from pipelines.reconstruction.bundle import GAUGE_FREEDOMS, Adjusted, adjust, exp_rotation
from pipelines.reconstruction.grow import Grown, GrowOptions, place_points
from pipelines.reconstruction.sightings import Sightings


def predicted_rotation_error_deg(adjusted: Adjusted, correlated_sightings: float, seed: int = 0, n_samples: int = 32) -> float:
    """Median rotation error (after alignment, DESIGN 8) that the residuals' noise lets one expect.

    correlated_sightings: how many sightings carry the information of one independent sighting.
    """
    residual = adjusted.residual_px
    sigma_px = 1.4826 * float(np.median(np.abs(residual)))
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
