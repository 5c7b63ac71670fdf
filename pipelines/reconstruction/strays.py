"""What a mask holds besides its object: tracks that its motion does not explain, and whose they are.

The segmentation knows motions over a few frames, from a few tracks; two movers that moved alike for that long may share a mask.
Poses know better: under them a stranger's tracks are off by many times the error of the object's own. Single tracks are off for
many reasons (edges, reflections), but where most tracks of a place are, another thing is there: a part of another object whose
poses explain them, or something that has no reconstruction (a mover that was missed, a turning wheel, a shadow).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from pipelines.artifacts import UNKNOWN, ObjectModel, SfmStatus
from pipelines.geometry import pixel_centres
from pipelines.reconstruction.bundle import Structure, reproject
from pipelines.reconstruction.rotation import on_sphere
from pipelines.reconstruction.sightings import Sightings, triangulate

MISFIT = 4.0
"""Times the object's median error by which a track is off; strangers start at about 5 ..."""
LEAST_MISFIT_PX = 0.2
"""... and at this, or the best textured objects would have strangers everywhere."""
MIN_SIGHTINGS = 4
NEIGHBOURS, AGREEING = 8, 0.75
"""A track is a stranger's if so many of its neighbours are off, too, on average over its frames."""
MIN_OWNED = 0.6
"""Of the strangers around one, those that another object's poses must explain."""
MIN_STRAYS = 12
"""Fewer strangers are left alone."""
TOLD_OWNED_SHARE, TOLD_SHARE, LEFT_OUT_SHARE = 0.01, 0.03, 0.06
"""Of an object's tracks: from where on strangers of another object are told, those of none are told, and these are left out."""


@dataclass(frozen=True)
class Strays:
    """The strangers among an object's tracks."""

    tracks: Int[np.ndarray, " n"]
    owner: Int[np.ndarray, " n"]
    """Id of the object whose poses explain each; 255 for none."""

    def __len__(self) -> int:
        return len(self.tracks)

    def taken_out(self, n_tracks: int, *, of_background: bool) -> "Strays":
        """Those that leave the object's mask: what another object owns, and of the rest what is no mere part (a wheel).

        n_tracks: of the object. The background's are far apart: what none owns there has no outline, and stays.
        """
        owned = self.owner != UNKNOWN
        leaving = owned | (not of_background and (~owned).sum() >= LEFT_OUT_SHARE * n_tracks)
        return Strays(self.tracks[leaving], self.owner[leaving])

    def told(self, names: Sequence[str], k: int, sightings: Sightings, principal_px: Float[np.ndarray, "2"]) -> list[str]:
        """Sentences on the strangers in the mask of object k."""
        said = []
        for owner in np.unique(self.owner):
            tracks = self.tracks[self.owner == owner]
            share = len(tracks) / sightings.n_tracks
            if share < (TOLD_SHARE if owner == UNKNOWN else TOLD_OWNED_SHARE):
                continue
            subject = f"{100 * share:.0f} % of the tracks of {names[k]}"
            if owner != UNKNOWN:
                said.append(f"{subject} move as {names[owner]} does: that part is given to it")
                continue
            left_out = " and are left out" if share >= LEFT_OUT_SHARE else ""
            t, (x, y) = _where(sightings, tracks, principal_px)
            said.append(
                f"{subject}, most of them near ({x:.0f}, {y:.0f}) px in frame {t}, move otherwise{left_out}: a turning "
                "part, a shadow, or a mover that is missing; check overlay.mp4, correct with a click"
            )
        return said


def missing(sightings: Sightings, tracks: Int[np.ndarray, " n"], principal_px: Float[np.ndarray, "2"]) -> str:
    """A sentence on strangers before the background that could not be reconstructed."""
    t, (x, y) = _where(sightings, tracks, principal_px)
    return (
        f"{len(tracks)} tracks near ({x:.0f}, {y:.0f}) px in frame {t} do not move as the background does: a mover may be "
        "missing there; check overlay.mp4, correct with a click"
    )


def _where(
    sightings: Sightings, tracks: Int[np.ndarray, " n"], principal_px: Float[np.ndarray, "2"]
) -> tuple[int, Float[np.ndarray, "2"]]:
    """The frame that shows most of the tracks, and their middle there in px."""
    t = int(sightings.seen[:, tracks].sum(1).argmax())
    return t, np.median(sightings.xy_px[t, tracks][sightings.seen[t, tracks]], axis=0) + principal_px


def track_error_px(sightings: Sightings, model: ObjectModel, focal_px: float) -> Float[np.ndarray, " P"]:
    """Median error of each track under an object's poses; NaN where too few registered frames see it, or its depth is open."""
    structure = Structure(model.cam_from_obj, np.zeros((sightings.n_tracks, 3)), focal_px)
    observed = sightings.observations(model.registered, np.ones(sightings.n_tracks, bool))
    if model.status is SfmStatus.ASSUMED_DEPTH:
        posed = Sightings(np.where(model.registered[:, None, None], sightings.xy_px, np.nan))
        points, spread = on_sphere(posed, model.cam_from_obj, focal_px), np.ones(sightings.n_tracks)
    else:
        points, spread = triangulate(observed, structure, sightings.n_tracks)
    residual, depth = reproject(Structure(model.cam_from_obj, points, focal_px), observed)
    off_px = np.where(depth > 0, np.linalg.norm(residual, axis=-1), np.inf)
    order = np.lexsort((off_px, observed.point))
    count = np.bincount(observed.point, minlength=sightings.n_tracks)
    middle = np.cumsum(count) - count + (count - 1) // 2
    error_px = np.full(sightings.n_tracks, np.nan)
    judged = (count >= MIN_SIGHTINGS) & (spread > 0)
    error_px[judged] = off_px[order][middle[judged]]
    return error_px


def find_strays(sightings: Sightings, model: ObjectModel, others: Mapping[int, ObjectModel], focal_px: float) -> Strays:
    """The strangers among the tracks of a reconstructed object.

    others: the other reconstructed objects by id, of which one may own them.
    """
    none = Strays(np.zeros(0, int), np.zeros(0, int))
    error_px = track_error_px(sightings, model, focal_px)
    known = ~np.isnan(error_px)
    if known.sum() <= NEIGHBOURS:
        return none
    limit = _limit_px(error_px)
    off = known & (error_px > limit)
    share = _share_around(sightings, known, off)
    strays = np.flatnonzero(off & (share >= AGREEING))
    if len(strays) < MIN_STRAYS:
        return none
    alone = sightings.of_tracks(strays)
    everyone = np.ones(len(strays), bool)
    owner, best = np.full(len(strays), UNKNOWN), np.full(len(strays), MIN_OWNED)
    for k, other in others.items():
        theirs = track_error_px(alone, other, focal_px)
        fits = theirs <= max(LEAST_MISFIT_PX, MISFIT * other.quality.get("median_error_px", 0.0))
        around = np.where(fits, _share_around(alone, everyone, fits), 0.0)
        better = around > best
        owner[better], best[better] = k, around[better]
    return Strays(strays, owner)


def places(sightings: Sightings, tracks: Int[np.ndarray, " n"], reach_px: float) -> list[Int[np.ndarray, " m"]]:
    """The tracks in groups, largest first: neighbours within a reach in some frame are in one group."""
    links = [np.zeros((0, 2), int)]
    for t in range(sightings.n_frames):
        here = np.flatnonzero(sightings.seen[t, tracks])
        if len(here):
            links.append(here[cKDTree(sightings.xy_px[t, tracks[here]]).query_pairs(reach_px, output_type="ndarray")])
    first, second = np.concatenate(links).T
    n = len(tracks)
    _, group = connected_components(coo_matrix((np.ones(len(first)), (first, second)), (n, n)), directed=False)
    return sorted((tracks[group == g] for g in range(int(group.max(initial=-1)) + 1)), key=len, reverse=True)


def _limit_px(error_px: Float[np.ndarray, " P"]) -> float:
    return max(LEAST_MISFIT_PX, MISFIT * float(np.median(error_px[np.isfinite(error_px)])))


def _share_around(
    sightings: Sightings, known: Bool[np.ndarray, " P"], chosen: Bool[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """Of each known track's nearest known neighbours, the share that is chosen; the mean over its frames."""
    total, count = np.zeros(sightings.n_tracks), np.zeros(sightings.n_tracks)
    for t in range(sightings.n_frames):
        here = np.flatnonzero(sightings.seen[t] & known)
        if len(here) < 2:
            continue
        n = min(NEIGHBOURS, len(here) - 1)
        _, nearest = cKDTree(sightings.xy_px[t, here]).query(sightings.xy_px[t, here], n + 1)
        total[here] += chosen[here[nearest[:, 1:]]].mean(1)
        count[here] += 1
    return total / np.maximum(count, 1)


def corrected_maps(
    maps: UInt8[np.ndarray, "T H W"],
    k: int,
    strays: Strays,
    sightings: Sightings,
    principal_px: Float[np.ndarray, "2"],
) -> UInt8[np.ndarray, "T H W"]:
    """Label maps in which pixels of object k whose nearest track is a stranger carry its owner's label."""
    owner = np.full(sightings.n_tracks, k, np.uint8)
    owner[strays.tracks] = strays.owner
    fixed = maps.copy()
    centres_px = pixel_centres(maps.shape[2], maps.shape[1]) - principal_px
    for t in np.flatnonzero(sightings.seen[:, strays.tracks].any(1)):
        here, own = np.flatnonzero(sightings.seen[t]), maps[t] == k
        if own.any():
            _, nearest = cKDTree(sightings.xy_px[t, here]).query(centres_px[own])
            fixed[t][own] = owner[here[nearest]]
    return fixed
