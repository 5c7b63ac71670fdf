"""One object from tracks to its model: attempts, choice, final adjustment, verdict."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from pipelines.artifacts import BACKGROUND, ObjectModel, SfmStatus, Tracks
from pipelines.reconstruction.attempts import (
    MIN_PLACED,
    OTHER_MOTION_DEG,
    Attempt,
    Choice,
    attempt_all,
    choose,
    rotation_difference_deg,
    total_cost,
)
from pipelines.reconstruction.bridge import bridge
from pipelines.reconstruction.bundle import adjust, cauchy, noise_px
from pipelines.reconstruction.complete import Views, complete
from pipelines.reconstruction.grow import FINAL, SETTLE, Effort, Grown, GrowOptions, finish, grow, place_points
from pipelines.reconstruction.judge import halves_difference_deg, predicted_rotation_error_deg
from pipelines.reconstruction.model import in_own_unit, to_model
from pipelines.reconstruction.motion_prior import MotionPrior
from pipelines.reconstruction.rotation import rotate_only, sides
from pipelines.reconstruction.sightings import Sightings, spread_tracks
from pipelines.reconstruction.smooth import CORRELATED_SIGHTINGS, smoothed
from pipelines.reconstruction.waist import NARROW, waist_of
from pipelines.reconstruction.zoom import turn_and_zoom

if TYPE_CHECKING:
    from pipelines.sfm import SfmConfig

MIN_ZOOM = 1.05
"""Less growth of the picture is breathing of the lens, or noise."""


def grow_options(config: "SfmConfig", free_focal: bool = False) -> GrowOptions:
    return GrowOptions(config.loss_px, config.max_error_px, config.min_frame_points, free_focal)


def solve_object(
    config: "SfmConfig",
    object_id: int,
    focal_px: float,
    tracks: Tracks,
    views: Views,
    world_from_cam: Float[np.ndarray, "T 3 3"] | None = None,
) -> ObjectModel:
    """Reconstruct one object, or say in a typed outcome why not.

    world_from_cam: axes in which a mover's motion is smooth (`smooth.background_axes`); None for the background.
    """
    n_frames, principal_px = views.video.n_frames, views.principal_px
    sightings = Sightings.from_tracks(tracks, n_frames, principal_px)
    enough = sightings.seen.sum(1) >= config.min_frame_points
    if sightings.n_tracks < config.min_tracks or enough.sum() < 3:
        reason = (
            f"only {sightings.n_tracks} tracks, and {int(enough.sum())} of {n_frames} frames show {config.min_frame_points} "
            "of them: too small, too plain or too briefly seen"
        )
        return ObjectModel.failed(object_id, SfmStatus.NO_TRACKS, reason, n_frames)
    options = grow_options(config)
    few = sightings.of_tracks(spread_tracks(sightings, config.attempt_tracks, config.seed))
    choice = choose(attempt_all(few, focal_px, options, config.max_windows))
    if object_id == BACKGROUND and not has_parallax(config, few, focal_px, choice):
        return _turning(config, sightings, focal_px, principal_px)
    if choice is None:
        reason = f"no reconstruction explains its {sightings.n_tracks} tracks as one rigid motion"
        return ObjectModel.failed(object_id, SfmStatus.NOT_REGISTERED, reason, n_frames)
    model = _finished(config, object_id, sightings, choice, views, world_from_cam)
    return _unless_zoomed(config, few, focal_px, choice, model) if object_id == BACKGROUND else model


def has_parallax(config: "SfmConfig", sightings: Sightings, focal_px: float, choice: Choice | None) -> bool:
    """Whether a camera that only turns explains the background clearly worse than one that moves."""
    if choice is None:
        return False
    options = grow_options(config)
    turning = rotate_only(sightings, focal_px, options)
    grown = choice.best.grown
    moving = cauchy(grown.adjusted.residual_px, options.loss_px)[0].mean()
    return float(cauchy(turning.residual_px, options.loss_px)[0].mean()) > config.min_parallax_ratio * float(moving)


def _unless_zoomed(
    config: "SfmConfig", sightings: Sightings, focal_px: float, choice: Choice, model: ObjectModel
) -> ObjectModel:
    """The background of a moving camera; in doubt where one that zooms and turns explains its tracks as well.

    As in `has_parallax`, the moving camera has to be clearly better to be believed.
    """
    zoomed = turn_and_zoom(sightings, focal_px, config.loss_px)
    moving = float(cauchy(choice.best.grown.adjusted.residual_px, config.loss_px)[0].mean())
    cost = float(cauchy(zoomed.residual_px, config.loss_px)[0].mean())
    if not model.usable or zoomed.zoom < MIN_ZOOM or cost > config.min_parallax_ratio * moving:
        return model
    reason = (
        f"the picture grows by {zoomed.zoom:.2g} as when a lens zooms (or a flat wall is approached): zooming is not modelled, "
        "use a part of the video without it"
    )
    return replace(model, status=SfmStatus.DOUBTFUL, reason=reason)


def _turning(config: "SfmConfig", sightings: Sightings, focal_px: float, principal_px: np.ndarray) -> ObjectModel:
    """The background of a camera without parallax: rotations, and points at distance 1."""
    options = grow_options(config)
    some = sightings.of_tracks(spread_tracks(sightings, config.final_tracks, config.seed))
    adjusted, side = rotate_only(some, focal_px, options), sides(some)
    median_px = float(np.median(np.linalg.norm(adjusted.residual_px, axis=-1)))
    shown = some.seen.sum(1) >= 3
    registered = shown & (side == 0)
    if median_px > config.max_error_px or not registered.any():
        reason = f"neither a moving nor a turning camera explains the background's tracks (median error {median_px:.2f} px)"
        return ObjectModel.failed(BACKGROUND, SfmStatus.NOT_REGISTERED, reason, sightings.n_frames)
    reason = "the camera does not move enough to show depth: the background is assumed on a far surface at distance 1"
    if (shown & ~registered).any():
        first, last = np.flatnonzero(registered)[[0, -1]]
        reason += (
            f"; frames {first} to {last} only, because nothing that they show is seen in the others, so the turn between them "
            "is not known"
        )
    placed = some.seen[registered].sum(0) >= 2
    quality = {"median_error_px": median_px, "assumed_depth": 1.0}
    return to_model(
        BACKGROUND, SfmStatus.ASSUMED_DEPTH, reason, some, adjusted.structure, registered, placed, principal_px, quality,
        config.max_error_px,
    )  # fmt: skip


def _finished(
    config: "SfmConfig", object_id: int, sightings: Sightings, choice: Choice, views: Views, world_from_cam: np.ndarray | None
) -> ObjectModel:
    """The finalists on more tracks, missing frames found, motion smoothed, all tracks triangulated, and a verdict."""
    options = grow_options(config)
    many = sightings.of_tracks(spread_tracks(sightings, config.final_tracks, config.seed))
    candidates = [
        c for attempt in choice.finalists if (c := _candidate(many, attempt, views, world_from_cam, options)) is not None
    ]
    if not candidates:
        reason = f"the best attempt fits {config.attempt_tracks} of its tracks but not {many.n_tracks}"
        return ObjectModel.failed(object_id, SfmStatus.NOT_REGISTERED, reason, sightings.n_frames)
    best, evidence = compared(candidates, options)
    final = candidates[best].grown
    # How sure the tracks alone are: a smooth motion may be smoothly wrong.
    observed = candidates[best].sightings.observations(final.registered, final.placed)
    unsmoothed = adjust(final.structure, observed, loss_px=options.loss_px, max_iterations=0)
    waist = waist_of(sightings)
    quality = {
        "median_error_px": float(np.median(np.linalg.norm(final.adjusted.residual_px, axis=-1))),
        "expected_rotation_error_deg": predicted_rotation_error_deg(unsmoothed, CORRELATED_SIGHTINGS, config.seed),
        "halves_difference_deg": min(halves_difference_deg(candidates[best].sightings, final, options), 180.0),
        "rival_evidence": min(evidence, 1e6),
        "attempts": float(choice.n_attempts),
        "attempts_agreeing": float(choice.n_agreeing),
        "placed_share": float(final.placed.sum() / max(many.n_tracks, 1)),
        "registered_frames": float(final.registered.sum()),
        "bridged_frames": float(candidates[best].n_bridged),
        "waist_share": waist.share,
        "waist_frame": float(waist.frame),
    }
    status, reason = _verdict(config, sightings, final, quality)
    structure = in_own_unit(final.structure, final.registered, final.placed)
    full, placed = place_points(sightings, structure, final.registered, options.max_error_px)
    return to_model(
        object_id, status, reason, sightings, full, final.registered, placed, views.principal_px, quality, config.max_error_px
    )


@dataclass(frozen=True)
class Candidate:
    """A finalist taken as far as it goes."""

    grown: Grown
    sightings: Sightings
    """Those of the tracks, and those that were found by looking for patches."""
    n_bridged: int
    """Frames that little but a smooth motion ties to the others, which are more."""


def _candidate(
    many: Sightings, attempt: Attempt, views: Views, world_from_cam: np.ndarray | None, options: GrowOptions
) -> Candidate | None:
    """An attempt on more tracks, its missing frames found, and its motion smoothed if it is a mover's."""

    def smooth(sightings: Sightings, grown: Grown, effort: Effort) -> tuple[Grown, MotionPrior | None]:
        return (grown, None) if world_from_cam is None else smoothed(sightings, grown, world_from_cam, options, effort)

    grown = finish(many, attempt.grown.structure, attempt.grown.registered, options, SETTLE)
    if grown is None:
        return None
    grown, _ = smooth(many, grown, SETTLE)
    found, grown = complete(many, grown, views, options)
    grown = finish(found, grown.structure, grown.registered, options, FINAL) or grown
    grown, prior = smooth(found, grown, FINAL)
    bridged = bridge(found, grown, views, options, FINAL, prior)
    if bridged is None:
        return Candidate(grown, found, 0)
    tied, longer = bridged
    # Frames beside the gap show too few points of one side alone.
    longer = grow(tied, longer.structure, longer.registered, options) or longer
    n_bridged = int((longer.registered & ~grown.registered).sum())
    return Candidate(smooth(tied, longer, FINAL)[0], tied, min(n_bridged, int(longer.registered.sum()) - n_bridged))


def compared(candidates: list[Candidate], options: GrowOptions) -> tuple[int, float]:
    """Which candidate has the highest likelihood, and by how much the logarithm is above that of the next other motion.

    The likelihood is that of Cauchy errors as wide as the better one's noise, of correlated sightings. Infinite without rivals.
    """
    best = 0
    for other in range(1, len(candidates)):
        if _evidence(candidates[best], candidates[other], options) < 0:
            best = other
    rivals = [
        _evidence(candidates[best], rival, options)
        for rival in candidates
        if rotation_difference_deg(candidates[best].grown, rival.grown) > OTHER_MOTION_DEG
    ]
    return best, min(rivals, default=float("inf"))


MIN_SHARED = 0.8
"""Other motions that share at least this part of their sightings are compared by the frames they share: a few frames more,
which a smooth motion may reach from a wrong one just as well, don't make up for a worse fit."""


def _evidence(one: Candidate, other: Candidate, options: GrowOptions) -> float:
    """Log-likelihood of one motion over that of the other, the mean of those on the sightings that either has found.

    A motion in two parts that nothing ties explains the tracks with more freedom than it has; the patches that the other motion
    finds in both parts tell.
    """
    differ = rotation_difference_deg(one.grown, other.grown) > OTHER_MOTION_DEG
    variance = max(CORRELATED_SIGHTINGS * min(noise_px(c.grown.adjusted) for c in (one, other)) ** 2, 1e-12)
    evidence = []
    for sightings in (one.sightings, other.sightings):
        reached = [int(sightings.seen[c.grown.registered].sum()) for c in (one, other)]
        frames = np.ones(sightings.n_frames, bool)
        shared = one.grown.registered & other.grown.registered
        if differ and sightings.seen[shared].sum() >= MIN_SHARED * max(reached):
            frames = shared
        cost = [total_cost(c.grown, sightings, options, frames) for c in (one, other)]
        evidence.append((cost[1] - cost[0]) * int(sightings.seen[frames].sum()) * options.loss_px**2 / variance)
    return sum(evidence) / 2


HARMLESS = 6.0
"""Of a motion whose error is up to this many times `max_rotation_error_deg` a scene can still be made."""

MAX_BRIDGED_SHARE = 0.25
"""More frames than this share that only a smooth motion ties to the others leave a doubt."""


WAIST_EVIDENCE = 300.0
"""By so much in log-likelihood the best motion has to win where an object's tracks have a narrow waist: the two sides of it can
be put together in many ways. (Of three such masks two held one mover, at 900 and 1,040, and one held two, at 67.)"""


def _verdict(config: "SfmConfig", sightings: Sightings, final: Grown, quality: dict[str, float]) -> tuple[SfmStatus, str]:
    """OK, or why not. Up to `HARMLESS` times the error that passes for OK, an object is better doubtful than missing."""
    possible = int((sightings.seen.sum(1) >= config.min_frame_points).sum())
    n_registered = int(final.registered.sum())
    if n_registered < max(3, config.min_registered_share * possible):
        return SfmStatus.NOT_REGISTERED, f"{n_registered} of {possible} frames with enough tracks registered"
    expected = quality["expected_rotation_error_deg"]
    if expected > config.max_rotation_error_deg:
        return (
            SfmStatus.DOUBTFUL if expected <= HARMLESS * config.max_rotation_error_deg else SfmStatus.UNRELIABLE,
            f"its motion is uncertain by about {expected:.1f} deg: too little turn or too little texture",
        )
    difference = quality["halves_difference_deg"]
    if difference > 2 * config.max_rotation_error_deg:
        return (
            SfmStatus.DOUBTFUL if difference <= 2 * HARMLESS * config.max_rotation_error_deg else SfmStatus.UNRELIABLE,
            f"two halves of its tracks tell motions that differ by {difference:.1f} deg",
        )
    placed = quality["placed_share"]
    if placed < MIN_PLACED:
        return SfmStatus.DOUBTFUL, f"one rigid motion explains only {100 * placed:.0f} % of its tracks"
    evidence = quality["rival_evidence"]
    if evidence < config.min_rival_evidence:
        return SfmStatus.DOUBTFUL, f"another motion explains its tracks almost as well (log-likelihood lower by {evidence:.1f})"
    if quality["waist_share"] < NARROW and evidence < WAIST_EVIDENCE:
        return (
            SfmStatus.DOUBTFUL,
            f"few of its tracks reach beyond frame {quality['waist_frame']:.0f}, and another motion explains them almost as "
            "well: it may be two objects, one after the other",
        )
    if quality["bridged_frames"] > MAX_BRIDGED_SHARE * n_registered:
        return (
            SfmStatus.DOUBTFUL,
            f"little but its smooth motion ties {quality['bridged_frames']:.0f} of its frames to the others",
        )
    return SfmStatus.OK, ""
