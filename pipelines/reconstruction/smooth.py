"""The final adjustment of a mover: tracks and a motion prior together, and how smooth its motion is, learned from both.

How large accelerations are is not known beforehand: a jerky object must be smoothed less than a gliding one. Their deviations
are estimated by expectation maximisation (Dempster, Laird & Rubin 1977): given deviations, the adjustment tells the
accelerations and how uncertain each of them is; the mean of acceleration squared plus its variance is the next deviation
squared. So accelerations that the tracks determine well decide, and those of hardly visible frames follow. Steps are lengthened
as in Salakhutdinov & Roweis, "Adaptive Overrelaxed Bound Optimization Methods" (ICML 2003).
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from pipelines.reconstruction.bundle import GAUGE_FREEDOMS, Adjusted, adjust, noise_px
from pipelines.reconstruction.grow import Effort, Grown, GrowOptions
from pipelines.reconstruction.motion_prior import Motion, MotionPrior, robust_weight
from pipelines.reconstruction.sightings import Sightings

CORRELATED_SIGHTINGS = 60.0
"""Sightings that carry the information of one: neighbouring patches overlap, and a track keeps its reference's error."""
ROUNDS = 6
BETWEEN = Effort(12, 1e-4)
"""Of every round but the last."""
OVERRELAXATION = 2.0
MIN_TURN = float(np.radians(0.03))
MIN_SHIFT = 2e-4
"""Deviations are never believed to be smaller; radians and depths per frame squared."""
MEDIAN_LENGTH = 1.538
"""Of a vector of three independent normal numbers."""
MIN_ACCELERATIONS = 3
"""From fewer nothing is learned."""


def background_axes(
    cam_from_background: Float[np.ndarray, "T 4 4"], registered: Bool[np.ndarray, " T"]
) -> Float[np.ndarray, "T 3 3"]:
    """Rotations from the camera to the background in every frame: interpolated between registered frames, constant outside."""
    from scipy.spatial.transform import Rotation, Slerp

    frames = np.flatnonzero(registered)
    if not len(frames):
        return np.tile(np.eye(3), (len(registered), 1, 1))
    known = Rotation.from_matrix(np.swapaxes(cam_from_background[frames, :3, :3], 1, 2))
    if len(frames) == 1:
        return np.tile(known.as_matrix(), (len(registered), 1, 1))
    wanted = np.clip(np.arange(len(registered)), frames[0], frames[-1])
    return np.asarray(Slerp(frames, known)(wanted).as_matrix())


def smoothed(
    sightings: Sightings, grown: Grown, world_from_cam: Float[np.ndarray, "T 3 3"], options: GrowOptions, effort: Effort
) -> tuple[Grown, MotionPrior | None]:
    """The reconstruction adjusted with a prior on its motion, and that prior; unchanged and None where frames are too few.

    world_from_cam: see `background_axes`.
    """
    unit = MotionPrior(world_from_cam, 1.0, 1.0, max(CORRELATED_SIGHTINGS * noise_px(grown.adjusted) ** 2, 1e-12))
    first = unit.accelerations(_motion(grown.adjusted, grown.placed))
    if len(first) < MIN_ACCELERATIONS:
        return grown, None
    deviations = np.median(np.linalg.norm(first, axis=-1), axis=0) / MEDIAN_LENGTH
    prior = _with_deviations(unit, deviations)
    observed = sightings.observations(grown.registered, grown.placed)
    adjusted = grown.adjusted
    for n in range(ROUNDS):
        prior = _learned(adjusted, grown.placed, prior) if n else prior
        took = effort if n == ROUNDS - 1 else BETWEEN
        adjusted = adjust(
            adjusted.structure,
            observed,
            loss_px=options.loss_px,
            max_iterations=took.iterations,
            tolerance=took.tolerance,
            prior=prior,
        )
    return replace(grown, structure=adjusted.structure, adjusted=adjusted), prior


def _motion(adjusted: Adjusted, placed: Bool[np.ndarray, " P"]) -> Motion:
    frames = adjusted.normal.frames
    poses = adjusted.structure.cam_from_obj[frames]
    return Motion(frames, poses[:, :3, :3], poses[:, :3, 3], np.median(adjusted.structure.points[placed], axis=0))


def _with_deviations(prior: MotionPrior, deviations: np.ndarray) -> MotionPrior:
    turn, shift = float(deviations[0]), float(deviations[1])
    return replace(prior, turn_deviation=max(turn, MIN_TURN), shift_deviation=max(shift, MIN_SHIFT))


def _learned(adjusted: Adjusted, placed: Bool[np.ndarray, " P"], prior: MotionPrior) -> MotionPrior:
    """The prior with the deviations of the accelerations that it led to."""
    motion = _motion(adjusted, placed)
    relative = prior.accelerations(motion)
    jacobian, column = prior.jacobian(motion)
    values, vectors = np.linalg.eigh(adjusted.normal.matrix)
    values, vectors = values[GAUGE_FREEDOMS:], vectors[:, GAUGE_FREEDOMS:]
    spread = vectors * np.sqrt(prior.weight / np.maximum(values, 1e-12 * values[-1]))
    moved = np.einsum("nij,njm->nim", jacobian, spread[column])
    variance = np.sum(moved**2, -1).reshape(-1, 2, 3).sum(-1)
    weight = robust_weight(relative)
    mean = np.sum(weight * (np.sum(relative**2, -1) + variance), 0) / (3 * weight.sum(0))
    factor = mean ** (OVERRELAXATION / 2)
    return _with_deviations(prior, factor * np.array([prior.turn_deviation, prior.shift_deviation]))
