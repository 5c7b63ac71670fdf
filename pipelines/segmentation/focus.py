"""A second set of tracks for the clustering: dense where the background's motion does not explain what moves, sparse elsewhere.

Clusters of tracks are pure only if an object holds enough of them; evenly spread tracks give a small or briefly seen mover a
handful. The motion of the background, known from a first clustering, tells where the others are.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from pipelines.segmentation.grid_tracks import PointTracks
from pipelines.segmentation.rigidity import RigidityTest, frame_triplets


@dataclass(frozen=True)
class FocusOptions:
    """How many tracks there are after the second look."""

    background_share: float = 0.3
    """Of `max_tracks`, for tracks that move with the background."""
    explained: float = 1.5
    """Mean residual, in standard deviations of the background's motion, up to which a track moves with the background."""
    triplet_strides: tuple[int, ...] = (2, 3, 5, 8)
    triplets_per_stride: int = 40
    noise_px: float = 0.06
    cap: float = 6.0


def focused(
    fine: PointTracks,
    coarse: PointTracks,
    background: Bool[np.ndarray, " P"],
    max_tracks: int,
    options: FocusOptions,
    rng: np.random.Generator,
) -> PointTracks:
    """At most `max_tracks` of the fine tracks: some of those that move as the coarse tracks of the background do, and others.

    background: which of the coarse tracks belong to it.
    """
    triplets = frame_triplets(fine.visible.shape[1], options.triplet_strides, options.triplets_per_stride)
    motions = _test(coarse, triplets, options).motions(np.flatnonzero(background))
    residual, tested = _test(fine, triplets, options).normalised_residuals(motions, options.cap)
    explained = (residual <= options.explained) & (tested > 0)
    n_explained = min(int(explained.sum()), round(options.background_share * max_tracks))
    others = _some(np.flatnonzero(~explained & (tested > 0)), max_tracks - n_explained, rng)
    ground = _some(np.flatnonzero(explained), n_explained, rng)
    return fine.chosen(np.sort(np.concatenate([others, ground])))


def _some(which: Int[np.ndarray, " n"], at_most: int, rng: np.random.Generator) -> Int[np.ndarray, " m"]:
    return which if len(which) <= at_most else rng.choice(which, at_most, replace=False)


def _test(tracks: PointTracks, triplets: tuple[list[int], ...], options: FocusOptions) -> RigidityTest:
    xy_px = np.where(tracks.visible[..., None], tracks.xy_px, 0.0)
    return RigidityTest(xy_px, tracks.visible, triplets, options.noise_px)
