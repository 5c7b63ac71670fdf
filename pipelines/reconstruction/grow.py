"""From a first guess in a few frames to all frames: resection of the next frame, triangulation, bundle adjustment, repeat.

Video makes resection easy: the next frame's camera is near its neighbour's. Only after a gap is a start from nothing needed.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from pipelines.geometry import rigid
from pipelines.reconstruction.bundle import Adjusted, Structure, adjust, reproject
from pipelines.reconstruction.motion_prior import MotionPrior
from pipelines.reconstruction.sightings import Sightings, refine_pose, triangulate


@dataclass(frozen=True)
class GrowOptions:
    """Limits of the growth (see SfmConfig)."""

    loss_px: float
    max_error_px: float
    min_frame_points: int
    free_focal: bool = False


@dataclass(frozen=True)
class Effort:
    """How long a bundle adjustment may take: iterations, and the relative decrease at which it stops."""

    iterations: int
    tolerance: float


START = Effort(30, 1e-4)
STEP = Effort(8, 1e-3)
SETTLE = Effort(25, 1e-4)
FINAL = Effort(40, 1e-6)


@dataclass(frozen=True)
class Grown:
    """A reconstruction of as many frames and tracks as could be had."""

    structure: Structure
    registered: Bool[np.ndarray, " T"]
    placed: Bool[np.ndarray, " P"]
    """Tracks that have a point."""
    adjusted: Adjusted


def place_points(
    sightings: Sightings,
    structure: Structure,
    registered: Bool[np.ndarray, " T"],
    max_error_px: float,
    min_spread: float = 2e-3,
) -> tuple[Structure, Bool[np.ndarray, " P"]]:
    """Triangulate every track from the registered frames; keep those in front of all cameras with a small median error.

    min_spread: rays that differ by less than about twice this angle (radians) do not give a depth.
    """
    everything = np.ones(sightings.n_tracks, bool)
    observed = sightings.observations(registered, everything)
    points, spread = triangulate(observed, structure, sightings.n_tracks)
    placed = replace(structure, points=points)
    residual, depth = reproject(placed, observed)
    error = np.linalg.norm(residual, axis=-1)
    count = np.bincount(observed.point, minlength=sightings.n_tracks)
    bad = np.bincount(observed.point, weights=(error > max_error_px) | (depth <= 0), minlength=sightings.n_tracks)
    return placed, (count >= 3) & (spread > min_spread) & (bad <= 0.3 * count)


def register(
    sightings: Sightings, structure: Structure, placed: Bool[np.ndarray, " P"], frame: int, nearest: int, options: GrowOptions
) -> Float[np.ndarray, "4 4"] | None:
    """cam_from_obj of a frame from its points: from its neighbour's, else from nothing. None when too few points agree."""
    chosen = np.flatnonzero(sightings.seen[frame] & placed)
    if len(chosen) < options.min_frame_points:
        return None
    points, xy_px = structure.points[chosen], sightings.xy_px[frame, chosen]
    starts = [structure.cam_from_obj[nearest]]
    if abs(frame - nearest) > 1:
        starts += _pose_from_nothing(points, xy_px, structure.focal_px)
    best: tuple[float, np.ndarray] | None = None
    for start in starts:
        pose, _ = refine_pose(start, points, xy_px, structure.focal_px, 8 * options.loss_px)
        pose, error = refine_pose(pose, points, xy_px, structure.focal_px, options.loss_px)
        share = float(np.mean(error < options.max_error_px))
        if share >= 0.5 and share * len(chosen) >= options.min_frame_points and (best is None or share > best[0]):
            best = share, pose
        if best is not None and best[0] > 0.8:
            break
    return None if best is None else best[1]


def _pose_from_nothing(points: np.ndarray, xy_px: np.ndarray, focal_px: float) -> list[np.ndarray]:
    """Perspective-n-point solutions, for frames after a gap."""
    import cv2

    intrinsics = np.diag([focal_px, focal_px, 1.0])
    try:
        n, turns, shifts, _ = cv2.solvePnPGeneric(points, xy_px, intrinsics, None, flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:
        return []
    return [rigid(cv2.Rodrigues(turns[i])[0], shifts[i].ravel()) for i in range(n) if shifts[i].ravel()[2] > 0]


def _adjusted(
    sightings: Sightings,
    structure: Structure,
    registered: np.ndarray,
    placed: np.ndarray,
    options: GrowOptions,
    effort: Effort,
    prior: MotionPrior | None = None,
) -> Adjusted:
    observed = sightings.observations(registered, placed)
    return adjust(
        structure,
        observed,
        loss_px=options.loss_px,
        max_iterations=effort.iterations,
        tolerance=effort.tolerance,
        free_focal=options.free_focal,
        prior=prior,
    )


def start(
    sightings: Sightings, structure: Structure, registered: Bool[np.ndarray, " T"], options: GrowOptions
) -> tuple[Structure, float] | None:
    """Adjust the first few frames from a rough guess; the result and its mean cost. None when hardly anything fits."""
    structure, placed = place_points(sightings, structure, registered, 8 * options.max_error_px)
    if placed.sum() < options.min_frame_points:
        return None
    adjusted = _adjusted(sightings, structure, registered, placed, options, START)
    return adjusted.structure, adjusted.cost / max(len(adjusted.residual_px), 1)


def grow(sightings: Sightings, structure: Structure, registered: Bool[np.ndarray, " T"], options: GrowOptions) -> Grown | None:
    """Extend a first structure to all frames. None when hardly anything fits."""
    structure, placed = place_points(sightings, structure, registered, 2 * options.max_error_px)
    if placed.sum() < options.min_frame_points:
        return None
    registered = registered.copy()
    adjusted_at, failed = int(registered.sum()), np.zeros(len(registered), bool)
    while True:
        frame, nearest = _next_frame(sightings, registered, placed, failed, options)
        if frame is not None:
            pose = register(sightings, structure, placed, frame, nearest, options)
            if pose is None:
                failed[frame] = True
            else:
                structure.cam_from_obj[frame] = pose
                registered[frame] = True
        if frame is None or registered.sum() >= 1.2 * adjusted_at + 1:
            if frame is None and registered.sum() == adjusted_at:
                break
            structure, placed = place_points(sightings, structure, registered, 2 * options.max_error_px)
            if placed.sum() < options.min_frame_points:
                return None
            structure = _adjusted(sightings, structure, registered, placed, options, STEP).structure
            adjusted_at, failed = int(registered.sum()), np.zeros(len(registered), bool)
    return finish(sightings, structure, registered, options, SETTLE)


def _next_frame(
    sightings: Sightings, registered: np.ndarray, placed: np.ndarray, failed: np.ndarray, options: GrowOptions
) -> tuple[int | None, int]:
    """The frame to register next: nearest in time to a registered one, then the one that sees most points."""
    support = (sightings.seen & placed).sum(1)
    waiting = np.flatnonzero(~registered & ~failed & (support >= options.min_frame_points))
    if not len(waiting):
        return None, 0
    known = np.flatnonzero(registered)
    gap = np.abs(waiting[:, None] - known)
    order = np.lexsort((-support[waiting], gap.min(1)))
    return int(waiting[order[0]]), int(known[gap[order[0]].argmin()])


def finish(
    sightings: Sightings,
    structure: Structure,
    registered: Bool[np.ndarray, " T"],
    options: GrowOptions,
    effort: Effort,
    prior: MotionPrior | None = None,
) -> Grown | None:
    """Triangulate everything, adjust, drop what does not fit, adjust again."""
    for _ in range(2):
        structure, placed = place_points(sightings, structure, registered, options.max_error_px)
        support = (sightings.seen & placed).sum(1)
        registered = registered & (support >= options.min_frame_points)
        if registered.sum() < 3 or placed.sum() < options.min_frame_points:
            return None
        adjusted = _adjusted(sightings, structure, registered, placed, options, effort, prior)
        structure = adjusted.structure
    return Grown(structure, registered, placed, adjusted)
