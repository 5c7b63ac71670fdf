"""A camera that only turns, or does not move at all: rotations from viewing rays, without any depth.

Points are put on the unit sphere around the camera, which is the stated assumption of `SfmStatus.ASSUMED_DEPTH`.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from pipelines.reconstruction.bundle import Adjusted, Structure, adjust
from pipelines.reconstruction.grow import GrowOptions
from pipelines.reconstruction.sightings import Sightings


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


def rotate_only(sightings: Sightings, focal_px: float, options: GrowOptions) -> tuple[Adjusted, Float[np.ndarray, " T"]]:
    """Rotations of a camera that does not translate, all points at distance 1; and the number of tracks that link each frame.

    Frames that share no tracks with their predecessors keep the predecessor's rotation.
    """
    directions, seen = rays(sightings, focal_px), sightings.seen
    poses = np.tile(np.eye(4), (sightings.n_frames, 1, 1))
    support = np.zeros(sightings.n_frames)
    support[0] = seen[0].sum()
    for t in range(1, sightings.n_frames):
        common = seen[t - 1] & seen[t]
        support[t] = common.sum()
        turn = turn_between(directions[t - 1, common], directions[t, common]) if common.sum() >= 3 else np.eye(3)
        poses[t, :3, :3] = turn @ poses[t - 1, :3, :3]
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
    return replace(adjusted, structure=scaled), support
