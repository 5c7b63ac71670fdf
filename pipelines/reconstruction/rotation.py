"""A camera that only turns, or does not move at all: rotations from viewing rays, without any depth.

Points are put on the unit sphere around the camera, which is the stated assumption of `SfmStatus.ASSUMED_DEPTH`.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from pipelines.reconstruction.bundle import Adjusted, Structure, adjust
from pipelines.reconstruction.grow import GrowOptions
from pipelines.reconstruction.sightings import Sightings

MIN_LINKS = 3
"""Tracks that two frames must share for a turn between them."""
COASTING_FRAMES = 4
"""For so long a camera that is lost sight of is taken to turn on as it did."""


def rays(sightings: Sightings, focal_px: float) -> Float[np.ndarray, "T P 3"]:
    """Unit viewing directions; NaN where not seen."""
    xy = sightings.xy_px / focal_px
    directions = np.concatenate([xy, np.ones((*xy.shape[:2], 1))], -1)
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def on_sphere(sightings: Sightings, cam_from_obj: Float[np.ndarray, "T 4 4"], focal_px: float) -> Float[np.ndarray, "P 3"]:
    """The mean viewing direction of each track under the rotations, at distance 1; zero where it is never seen."""
    directions = np.nan_to_num(rays(sightings, focal_px))
    in_world = np.einsum("tji,tpj->tpi", cam_from_obj[:, :3, :3], directions).sum(0)
    mean: Float[np.ndarray, "P 3"] = in_world / np.maximum(np.linalg.norm(in_world, axis=-1, keepdims=True), 1e-12)
    return mean


def turn_between(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation R with b = R a, robustly: Procrustes, reweighted by the angles left."""
    weight = np.ones(len(a))
    rotation = np.eye(3)
    for _ in range(10):
        u, _, vt = np.linalg.svd(np.einsum("n,ni,nj->ij", weight, b, a))
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        angle = np.linalg.norm(b - a @ rotation.T, axis=-1)
        weight = 1.0 / (1.0 + (angle / max(1.5 * float(np.median(angle)), 1e-6)) ** 2)
    return rotation


def sides(sightings: Sightings) -> Int[np.ndarray, " T"]:
    """Parts of the clip that shared tracks tie together, numbered by falling number of frames; 0 for all where nothing breaks.

    Frames that hardly show any tracks are sides of their own.
    """
    from scipy.sparse.csgraph import connected_components

    seen = sightings.seen.astype(np.float32)
    side = connected_components(seen @ seen.T >= MIN_LINKS, directed=False)[1]
    by_size = np.argsort(-np.bincount(side), kind="stable")
    number: Int[np.ndarray, " T"] = np.argsort(by_size)[side]
    return number


def _chained(directions: Float[np.ndarray, "T P 3"], sightings: Sightings) -> Float[np.ndarray, "T 4 4"]:
    """Each frame turned against the last one before it that shares tracks with it; without any, on as the camera turned."""
    seen = sightings.seen
    poses = np.tile(np.eye(4), (sightings.n_frames, 1, 1))
    lost = 0
    for t in range(1, sightings.n_frames):
        shared = (seen[:t] & seen[t]).sum(1)
        linked = np.flatnonzero(shared >= MIN_LINKS)
        if len(linked):
            u, lost = int(linked[-1]), 0
            common = seen[u] & seen[t]
            poses[t, :3, :3] = turn_between(directions[u, common], directions[t, common]) @ poses[u, :3, :3]
            continue
        lost += 1
        goes_on = t >= 2 and lost <= COASTING_FRAMES
        rate = poses[t - 1, :3, :3] @ poses[t - 2, :3, :3].T if goes_on else np.eye(3)
        poses[t, :3, :3] = rate @ poses[t - 1, :3, :3]
    return poses


def rotate_only(sightings: Sightings, focal_px: float, options: GrowOptions) -> Adjusted:
    """Rotations of a camera that does not translate, all points at distance 1.

    Across a break that no tracks cross (`sides`) the turn is a guess.
    """
    seen = sightings.seen
    poses = _chained(rays(sightings, focal_px), sightings)
    frames, several = seen.sum(1) >= 1, seen.sum(0) >= 2
    observed = sightings.observations(frames, several)
    adjusted = adjust(
        Structure(poses, on_sphere(sightings, poses, focal_px), focal_px),
        observed,
        loss_px=options.loss_px,
        max_iterations=20,
        free_focal=options.free_focal,
        still=True,
    )
    length = np.linalg.norm(adjusted.structure.points, axis=-1, keepdims=True)
    scaled = replace(adjusted.structure, points=adjusted.structure.points / np.maximum(length, 1e-12))
    return replace(adjusted, structure=scaled)
