"""Frames cut off from the rest: no track and no patch links them, only the motion goes on.

A run of unregistered frames with tracks of its own is reconstructed from poses extrapolated across a gap of a few frames. Its
tracks and the motion prior settle the motion within the run (a few frames alone have a mirror twin, which turns the other
way); its place relative to the rest is the one that continues the motion best. That is near enough to find patches of points
seen elsewhere in the run's frames, which tie it to the rest; a run without such patches is given up.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from pipelines.geometry import align_rotations, rigid
from pipelines.reconstruction.bundle import Structure, adjust
from pipelines.reconstruction.complete import MAX_GAP_FRAMES, Views, extrapolated, relink
from pipelines.reconstruction.grow import Effort, Grown, GrowOptions, finish, place_points, register
from pipelines.reconstruction.motion_prior import MotionPrior
from pipelines.reconstruction.sightings import Sightings

ANCHORS = 3
"""Frames of the run, the nearest ones, whose extrapolated poses place it."""
TIES = 2
"""Rounds of looking for patches and adjusting: better poses find more patches."""


def bridge(
    sightings: Sightings, grown: Grown, views: Views, options: GrowOptions, effort: Effort, prior: MotionPrior | None = None
) -> tuple[Sightings, Grown] | None:
    """Add runs of frames beyond a short gap, with the sightings that tie them. None when there is no run that can be tied.

    prior: as the rest of the motion taught it.
    """
    extended = grown
    for direction in (-1, 1):
        extended = _bridge_towards(sightings, extended, options, direction, prior) or extended
    bridged = extended.registered & ~grown.registered
    if not bridged.any():
        return None
    structure, placed = place_points(sightings, extended.structure, extended.registered, options.max_error_px)
    extended, tied = replace(extended, structure=structure, placed=placed), sightings
    for _ in range(TIES):
        tied = relink(tied, extended, views, bridged, options)
        if int(tied.seen[bridged].sum() - sightings.seen[bridged].sum()) < options.min_frame_points:
            return None
        finished = finish(tied, extended.structure, extended.registered, options, effort, prior)
        if finished is None:
            return None
        extended = finished
    return tied, extended


def _bridge_towards(
    sightings: Sightings, grown: Grown, options: GrowOptions, direction: int, prior: MotionPrior | None
) -> Grown | None:
    """Continue the motion beyond the last registered frame in one direction, if tracks there allow it."""
    known = np.flatnonzero(grown.registered)
    edge = int(known[0] if direction < 0 else known[-1])
    waiting = list(range(edge + direction, -1 if direction < 0 else sightings.n_frames, direction))
    own = ~grown.placed & (sightings.seen[waiting].sum(0) >= 3) if waiting else np.zeros(sightings.n_tracks, bool)
    enough = [t for t in waiting if (sightings.seen[t] & own).sum() >= options.min_frame_points]
    if len(enough) < ANCHORS or abs(enough[0] - edge) > MAX_GAP_FRAMES:
        return None
    anchors = enough[:ANCHORS]
    poses = grown.structure.cam_from_obj.copy()
    for t in anchors:
        poses[t] = extrapolated(grown.structure.cam_from_obj, grown.registered, t, edge, direction)
    local, structure = sightings.of_tracks(own), replace(grown.structure, cam_from_obj=poses)
    registered = np.zeros(sightings.n_frames, bool)
    registered[anchors] = True
    settled = _settled(local, structure, registered, options, prior)
    for t in enough[ANCHORS:]:
        if settled is None:
            return None
        structure, placed = settled
        nearest = int(np.flatnonzero(registered)[-1 if direction > 0 else 0])
        structure.cam_from_obj[t] = extrapolated(structure.cam_from_obj, registered, t, nearest, direction)
        pose = register(local, structure, placed, t, t, options)
        if pose is not None:
            structure.cam_from_obj[t] = pose
            registered[t] = True
            settled = _settled(local, structure, registered, options, prior)
    return None if settled is None else _joined(grown, settled[0], poses, registered, np.array(anchors))


def _settled(
    local: Sightings, structure: Structure, registered: Bool[np.ndarray, " T"], options: GrowOptions, prior: MotionPrior | None
) -> tuple[Structure, Bool[np.ndarray, " P"]] | None:
    """The run's own points triangulated and adjusted with its poses; None when there are too few."""
    structure, placed = place_points(local, structure, registered, 8 * options.max_error_px)
    if placed.sum() < options.min_frame_points:
        return None
    observed = local.observations(registered, placed)
    adjusted = adjust(structure, observed, loss_px=options.loss_px, max_iterations=10, tolerance=1e-3, prior=prior)
    return adjusted.structure, placed


def _joined(
    grown: Grown, run: Structure, wanted: Float[np.ndarray, "T 4 4"], registered: Bool[np.ndarray, " T"], anchors: np.ndarray
) -> Grown:
    """The run's poses, moved as a whole to agree with the wanted poses of its anchors, beside the rest."""
    r_run, r_wanted = run.cam_from_obj[anchors, :3, :3], wanted[anchors, :3, :3]
    turn = align_rotations(r_run, r_wanted)
    # tau_wanted = tau_run + R_wanted shift
    offset = wanted[anchors, :3, 3] - run.cam_from_obj[anchors, :3, 3]
    shift = np.einsum("tji,tj->ti", r_wanted, offset).mean(0)
    moved = run.cam_from_obj[registered]
    moved = rigid(moved[:, :3, :3] @ turn, moved[:, :3, 3] + moved[:, :3, :3] @ turn @ shift)
    poses = grown.structure.cam_from_obj.copy()
    poses[registered] = moved
    structure = replace(grown.structure, cam_from_obj=poses)
    return replace(grown, structure=structure, registered=grown.registered | registered)
