"""The focal length: given, self-calibrated on the background or on the movers, or assumed.

Self-calibration is bundle adjustment with the focal length free, from several starts. Its uncertainty comes from the same
Gauss-Newton matrix: a camera that hardly turns or moves does not tell its focal length. And from the starts: a plane that turns
looks the same through several lenses, each of which is sure of itself. A mover that turns in front of a still camera tells the
focal length, too, though less exactly: where the background is not sure, its answer, the movers' and an assumption are weighed
by their uncertainties. Where all of them say too little, that is stated.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from pipelines.artifacts import Tracks, Video, read_json, write_json
from pipelines.geometry import focal_from_fov
from pipelines.reconstruction.attempts import attempt_window, choose
from pipelines.reconstruction.bundle import Adjusted, adjust, noise_px
from pipelines.reconstruction.grow import Grown
from pipelines.reconstruction.rotation import rotate_only
from pipelines.reconstruction.sightings import Sightings, spread_tracks
from pipelines.reconstruction.solve import CORRELATED_SIGHTINGS, grow_options, has_parallax
from pipelines.reconstruction.window import candidate_windows

if TYPE_CHECKING:
    from pipelines.sfm import SfmConfig

START_FOVS_DEG = (60.0, 40.0, 85.0, 25.0, 110.0)
RIVAL_EVIDENCE = 5.0
"""Log-likelihood by which a focal length must be better than another start's to refute it. (Of cards that turn it was at most
2.5 better than one that was a third off. What is a tenth as deep as it is wide has no other.)"""
WIDEST_FOV_DEG, NARROWEST_FOV_DEG = 140.0, 5.0
"""A focal length outside this range is a failure of self-calibration."""
MIN_SIGMA_PX = 0.05
"""Tracks are never believed to be more exact than this: those of a static camera repeat themselves perfectly."""
MIN_INFORMATION = 1e-6
"""Share of the focal length's own curvature that must be left after poses and points have adapted to it."""
MIN_MOTION_PX = 2.0
"""A background whose tracks move less (median) tells nothing."""
MOST_MOVERS = 5
"""The movers with most tracks are asked."""
MOVERS_CAUTION = 4.0
"""Errors of single movers were up to four times their uncertainties: what shifts tracks is the same for many of them."""
OUTLIER_SIGMAS = 3.0
"""Whatever lies farther from the surest answer, in standard deviations of both, is left out."""
ASSUMED_UNCERTAINTY = 0.3
"""Standard deviation of the logarithm of cameras' focal lengths about the assumed one."""
USELESS_UNCERTAINTY = 1.0
"""A background that is less sure than this (tracks of a still one are infinitely unsure) has told nothing."""
MAX_FUSED_UNCERTAINTY = 0.1
"""What all sources together tell less exactly is called assumed."""


@dataclass(frozen=True)
class Focal:
    """The focal length and where it comes from (`given`, `self-calibrated`, `assumed`)."""

    focal_px: float
    source: str
    uncertainty: float = 0.0
    """Expected error as a share of the focal length."""
    note: str = ""
    told_px: float | None = None
    """What the background alone tells, where it is not sure enough to be believed as it is ..."""
    told_uncertainty: float = 0.0
    """... and how unsure it is."""

    def save(self, folder: Path) -> None:
        write_json(folder / "focal.json", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "Focal":
        return cls(**read_json(folder / "focal.json"))


def find_focal(config: "SfmConfig", background: Tracks, video: Video, principal_px: Float[np.ndarray, "2"]) -> Focal:
    """The focal length to use for all objects, as given or as the background tells it."""
    if config.focal_px is not None:
        return Focal(config.focal_px * video.reduction, "given")
    if config.fov_deg is not None:
        return Focal(focal_from_fov(config.fov_deg, video.width), "given")
    side_px = max(video.width, video.height)
    assumed_px = focal_from_fov(config.assumed_fov_deg, side_px)
    found = _calibrated(config, background, side_px, video.n_frames, principal_px)
    if found is not None and found[1] <= config.max_focal_uncertainty:
        return Focal(found[0], "self-calibrated", found[1])
    if found is None or found[1] > USELESS_UNCERTAINTY:
        note = f"the background does not tell the focal length: {assumed_px:.0f} px ({config.assumed_fov_deg:g} deg) is assumed"
        return Focal(assumed_px, "assumed", ASSUMED_UNCERTAINTY, note)
    fused = _fused(assumed_px, [found], "the background tells")
    return replace(fused, told_px=found[0], told_uncertainty=found[1])


def focal_of_movers(
    config: "SfmConfig",
    movers: Sequence[Tracks],
    background: Focal,
    side_px: int,
    n_frames: int,
    principal_px: Float[np.ndarray, "2"],
) -> Focal:
    """What the movers, the background and the assumption together tell; `background` where the movers tell nothing."""
    largest = sorted(movers, key=lambda tracks: -len(tracks.object_id))[:MOST_MOVERS]
    found = [_calibrated(config, tracks, side_px, n_frames, principal_px) for tracks in largest]
    told = [(focal_px, MOVERS_CAUTION * sigma) for focal_px, sigma in filter(None, found) if np.isfinite(sigma)]
    if not told:
        return background
    by = "the movers tell"
    if background.told_px is not None:
        told, by = [(background.told_px, background.told_uncertainty), *told], "the background and the movers tell"
    return _fused(focal_from_fov(config.assumed_fov_deg, side_px), told, by)


def _fused(assumed_px: float, told: Sequence[tuple[float, float]], by: str) -> Focal:
    """Measured focal lengths, with their uncertainties, and the assumption as one. by: who measured, with a verb."""
    focal_px, uncertainty = weighed([(assumed_px, ASSUMED_UNCERTAINTY), *told])
    best = min(told, key=lambda each: each[1])
    if uncertainty <= MAX_FUSED_UNCERTAINTY:
        note = (
            f"{by} the focal length, {focal_px:.0f} px, to about {100 * uncertainty:.0f} %; "
            "give --focal-px or --fov-deg if you know better"
        )
        return Focal(focal_px, "self-calibrated", uncertainty, note)
    note = (
        f"{by} the focal length to about {100 * best[1]:.0f} % only: {focal_px:.0f} px, between that and a usual lens, is "
        "assumed; give --focal-px or --fov-deg"
    )
    return Focal(focal_px, "assumed", uncertainty, note)


def weighed(measured: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean of focal lengths in the logarithm, weighted by their uncertainties, and its own.

    Those that lie too far from the surest are left out.
    """
    log_focal, sigma = np.log([focal_px for focal_px, _ in measured]), np.array([sigma for _, sigma in measured])
    surest = sigma.argmin()
    kept = np.abs(log_focal - log_focal[surest]) <= OUTLIER_SIGMAS * np.hypot(sigma, sigma[surest])
    weight = kept / sigma**2
    return float(np.exp((weight * log_focal).sum() / weight.sum())), float(weight.sum() ** -0.5)


def _calibrated(
    config: "SfmConfig", tracks: Tracks, side_px: int, n_frames: int, principal_px: Float[np.ndarray, "2"]
) -> tuple[float, float] | None:
    """Focal length and uncertainty as one object's tracks tell them; None when nothing fits, or nothing that can be.

    side_px: the longer side, which lenses are named by, however the camera is held.
    """
    sightings = Sightings.from_tracks(tracks, n_frames, principal_px)
    found = self_calibrate(config, sightings, [focal_from_fov(fov, side_px) for fov in START_FOVS_DEG])
    low, high = focal_from_fov(WIDEST_FOV_DEG, side_px), focal_from_fov(NARROWEST_FOV_DEG, side_px)
    return found if found is not None and low < found[0] < high else None


def self_calibrate(config: "SfmConfig", sightings: Sightings, starts_px: list[float]) -> tuple[float, float] | None:
    """Focal length and its uncertainty (share of itself), from the start that ends cheapest; None when nothing fits."""
    few = sightings.of_tracks(spread_tracks(sightings, config.attempt_tracks, config.seed))
    if few.n_tracks < config.min_tracks or _median_motion_px(few) < MIN_MOTION_PX:
        return None
    results = [result for start_px in starts_px if (result := _calibrated_from(config, few, start_px)) is not None]
    if not results:
        return None
    adjusted, cost = min(results, key=lambda result: result[1])
    focal_px, sigma = adjusted.structure.focal_px, focal_uncertainty(adjusted)
    nats = config.loss_px**2 * int(few.seen.sum()) / (CORRELATED_SIGHTINGS * max(noise_px(adjusted), MIN_SIGMA_PX) ** 2)
    for other, other_cost in results:
        if (other_cost - cost) * nats < RIVAL_EVIDENCE:
            sigma = max(sigma, abs(float(np.log(other.structure.focal_px / focal_px))))
    return focal_px, sigma


def _median_motion_px(sightings: Sightings) -> float:
    """Median over the tracks of the diagonal of the box that a track's sightings fill."""
    extent = np.nanmax(sightings.xy_px, axis=0) - np.nanmin(sightings.xy_px, axis=0)
    return float(np.median(np.linalg.norm(extent, axis=-1)))


def _calibrated_from(config: "SfmConfig", sightings: Sightings, start_px: float) -> tuple[Adjusted, float] | None:
    """Bundle adjustment with a free focal length from one start, and its mean cost."""
    options = grow_options(config, free_focal=True)
    windows = candidate_windows(sightings, start_px, count=1)
    choice = choose([a for window in windows for a in attempt_window(sightings, window, start_px, options)])
    if has_parallax(config, sightings, start_px, choice):
        assert choice is not None
        final = _polished(sightings, choice.best.grown, config.loss_px)
        return final, choice.best.cost
    turning = rotate_only(sightings, start_px, options)
    return turning, turning.cost / max(len(turning.residual_px), 1) / config.loss_px**2


def _polished(sightings: Sightings, grown: Grown, loss_px: float) -> Adjusted:
    observed = sightings.observations(grown.registered, grown.placed)
    return adjust(grown.structure, observed, loss_px=loss_px, max_iterations=60, tolerance=1e-8, free_focal=True)


def focal_uncertainty(adjusted: Adjusted) -> float:
    """Standard deviation of the focal length's logarithm, with the variance of correlated residuals."""
    sigma_px = max(noise_px(adjusted), MIN_SIGMA_PX)
    matrix = adjusted.normal.matrix
    poses, border = matrix[:-1, :-1], matrix[:-1, -1]
    information = float(matrix[-1, -1] - border @ np.linalg.pinv(poses, rcond=1e-10, hermitian=True) @ border)
    # Nothing but rounding is left of the information when poses and points make up for any focal length.
    if information <= MIN_INFORMATION * float(matrix[-1, -1]):
        return float("inf")
    return sigma_px * float(np.sqrt(CORRELATED_SIGHTINGS / information))
