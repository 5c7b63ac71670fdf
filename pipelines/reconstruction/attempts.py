"""Several attempts at one object, from different windows and their mirror twins, and the choice among them.

A small reprojection error proves nothing about a weak-perspective object: bas-relief shapes and mirror twins reproject
almost as well. So every attempt is driven to its own optimum on the same tracks, attempts that end in the same motion are
counted as agreeing, and those that disagree at a similar cost are finalists, to be judged on all tracks.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipelines.geometry import align_rotations, rotation_angle_deg
from pipelines.reconstruction.bundle import cauchy, reproject
from pipelines.reconstruction.flat import flat_starts
from pipelines.reconstruction.grow import Grown, GrowOptions, grow, start
from pipelines.reconstruction.sightings import Sightings
from pipelines.reconstruction.window import Window, candidate_windows, factorise

SAME_MOTION_DEG = 1.0
"""Attempts whose rotations differ by less (median) are the same answer."""
OTHER_MOTION_DEG = 4.0
"""Attempts farther apart than this can't both be near the truth. What lies between is imprecision, which `judge` weighs."""
MIN_PLACED = 0.6
"""Share of the tracks that one motion must explain."""
EXPLAINED = 0.85
"""Of an answer that explains more than this, agreement is enough."""
CLOSE_RATIO = 1.3
MAX_FINALISTS = 4
"""Motions that cost up to this many times the best, so many at most, are finalists."""
MIN_COMMON_FRAMES = 3
"""Motions with fewer frames in common can't be compared."""
BETTER_RATIO = 0.95
"""A plane is worth growing where it costs less than this part of what the twins cost in the window."""
REFUTED_RATIO = 2.5
"""A mirror twin that costs more than this many times its sibling's cost within its own window is wrong."""


@dataclass(frozen=True)
class Attempt:
    """One reconstruction with what it cost."""

    grown: Grown
    cost: float
    """Mean Cauchy cost over all sightings, those not explained counted as outliers; relative to loss_px squared."""
    origin: str


@dataclass(frozen=True)
class Choice:
    """The best attempt, those that disagree with it and with each other at a similar cost, and one of other frames."""

    finalists: tuple[Attempt, ...]
    """The cheapest first."""
    n_attempts: int
    n_agreeing: int

    @property
    def best(self) -> Attempt:
        return self.finalists[0]


def total_cost(grown: Grown, sightings: Sightings, options: GrowOptions, frames: Bool[np.ndarray, " T"] | None = None) -> float:
    """Mean cost of all sightings (in the given frames), those without a pose or a point counted as errors of `max_error_px`."""
    if frames is None:
        frames = np.ones(sightings.n_frames, bool)
    residual_px, _ = reproject(grown.structure, sightings.observations(grown.registered & frames, grown.placed))
    rho, _ = cauchy(residual_px, options.loss_px)
    n_seen = int(sightings.seen[frames].sum())
    worst, _ = cauchy(np.array([[options.max_error_px, 0.0]]), options.loss_px)
    return float((np.minimum(rho, worst).sum() + (n_seen - len(rho)) * worst[0]) / max(n_seen, 1) / options.loss_px**2)


def rotation_difference_deg(a: Grown, b: Grown) -> float:
    """Median rotation angle between two motions after aligning their object frames; infinite without common frames."""
    common = a.registered & b.registered
    if common.sum() < MIN_COMMON_FRAMES:
        return float("inf")
    r_a, r_b = a.structure.cam_from_obj[common, :3, :3], b.structure.cam_from_obj[common, :3, :3]
    turned: Float[np.ndarray, "F 3 3"] = r_a @ align_rotations(r_a, r_b)
    return float(np.median(rotation_angle_deg(np.swapaxes(turned, 1, 2) @ r_b)))


def attempt_window(sightings: Sightings, window: Window, focal_px: float, options: GrowOptions) -> list[Attempt]:
    """Both twins of a window, and the plane of a flat object, grown to all frames; what the window itself refutes is dropped
    before it grows."""
    frames = np.zeros(sightings.n_frames, bool)
    frames[window.frames] = True
    starts = []
    for twin, structure in enumerate(factorise(sightings, window, focal_px)):
        started = start(sightings, structure, frames, options)
        if started is not None:
            starts.append((started[1], f"twin {twin}", started[0]))
    tilts = [start(sightings, plane, frames, options) for plane in flat_starts(sightings, window, focal_px, options.loss_px)]
    if found := [tilt for tilt in tilts if tilt is not None]:
        # Most tilts end in the same motion, so the best of them is enough; and so are the twins where they fit as well.
        structure, cost = min(found, key=lambda tilt: tilt[1])
        if cost < BETTER_RATIO * min((other for other, *_ in starts), default=np.inf):
            starts.append((cost, "a plane", structure))
    attempts = []
    for cost, kind, structure in starts:
        if cost > REFUTED_RATIO * min(item[0] for item in starts):
            continue
        grown = grow(sightings, structure, frames, options)
        if grown is not None:
            origin = f"frames {window.frames[0]} to {window.frames[-1]}, {kind}"
            attempts.append(Attempt(grown, total_cost(grown, sightings, options), origin))
    return attempts


def choose(attempts: list[Attempt]) -> Choice | None:
    """The finalists among the attempts; None without any.

    Where an object is hidden for a while, attempts reach one side of the gap only: the best of the other is a finalist, too.
    """
    if not attempts:
        return None
    ordered = sorted(attempts, key=lambda attempt: attempt.cost)
    finalists = [ordered[0]]
    for attempt in ordered[1:]:
        close = attempt.cost <= CLOSE_RATIO * ordered[0].cost and len(finalists) < MAX_FINALISTS
        if close and all(rotation_difference_deg(known.grown, attempt.grown) > OTHER_MOTION_DEG for known in finalists):
            finalists.append(attempt)
    beyond = [a for a in ordered if (a.grown.registered & ordered[0].grown.registered).sum() < MIN_COMMON_FRAMES]
    if beyond and not any(finalist is beyond[0] for finalist in finalists):
        finalists.append(beyond[0])
    agreeing = [rotation_difference_deg(ordered[0].grown, other.grown) <= SAME_MOTION_DEG for other in attempts]
    return Choice(tuple(finalists), len(attempts), sum(agreeing))


def attempt_all(sightings: Sightings, focal_px: float, options: GrowOptions, max_windows: int) -> list[Attempt]:
    """Attempts from the best windows; later windows are tried until two windows agree on the best answer.

    An answer that leaves many tracks unexplained is doubtful, whoever agrees on it: attempts from similar windows end in the
    same wrong valley. Then all windows are tried, and up to twice as many.
    """
    attempts: list[Attempt] = []
    for n_tried, window in enumerate(candidate_windows(sightings, focal_px, count=2 * max_windows), start=1):
        attempts += attempt_window(sightings, window, focal_px, options)
        choice = choose(attempts)
        if choice is None or choice.best.grown.placed.mean() < EXPLAINED:
            continue
        everywhere = choice.best.grown.registered.sum() == _visible(sightings, options)
        if n_tried >= max_windows or (n_tried >= 2 and choice.n_agreeing >= 2 and everywhere):
            break
    return attempts


def _visible(sightings: Sightings, options: GrowOptions) -> int:
    """Number of frames with enough tracks to register."""
    return int((sightings.seen.sum(1) >= options.min_frame_points).sum())
