"""First motions of a flat object: a book, a poster, a door, the side of a bus.

The tracks of a flat object fill two dimensions only, so the third factor of a factorisation (`window`) is noise, and with it
the metric upgrade: no attempt need come near the truth. A plane is no mystery, though: its points are known up to how it is
tilted. It is put into a middle frame under several tilts, the other frames follow by resection, and bundle adjustment turns
most of these starts into the same motion.
"""

import numpy as np
from jaxtyping import Float

from pipelines.reconstruction.bundle import Structure, adjust
from pipelines.reconstruction.sightings import Sightings, refine_pose
from pipelines.reconstruction.window import Window

FLAT_SHARE = 0.02
"""Tracks whose third dimension is less than this share of the first may be those of a plane."""
TILTS = ((0.0, 0.0), (0.55, 0.0), (-0.27, 0.48), (-0.27, -0.48))
"""Slopes of the plane in x and y: facing the camera, and three ways about 30 degrees from that."""
ITERATIONS = 40


def flat_starts(sightings: Sightings, window: Window, focal_px: float, loss_px: float) -> list[Structure]:
    """One structure per tilt; none where the tracks have depth. Frames and tracks outside the window as in `factorise`."""
    if window.third_share > FLAT_SHARE:
        return []
    frames, tracks = window.frames, window.tracks
    middle = len(frames) // 2
    xy_px = sightings.xy_px[np.ix_(frames, tracks)]
    rays = np.concatenate([xy_px[middle] / focal_px, np.ones((len(tracks), 1))], 1)
    registered, placed = np.zeros(sightings.n_frames, bool), np.zeros(sightings.n_tracks, bool)
    registered[frames], placed[tracks] = True, True
    observed = sightings.observations(registered, placed)
    structures = []
    for slope in TILTS:
        normal = np.array([*slope, 1.0])
        points = np.zeros((sightings.n_tracks, 3))
        points[tracks] = rays * ((normal @ rays.mean(0)) / np.maximum(rays @ normal, 0.1))[:, None]
        poses = np.tile(np.eye(4), (sightings.n_frames, 1, 1))
        poses[frames] = _resected(points[tracks], xy_px, middle, focal_px, loss_px)
        first = Structure(poses, points, focal_px)
        structures.append(adjust(first, observed, loss_px=loss_px, max_iterations=ITERATIONS).structure)
    return structures


def _resected(
    points: Float[np.ndarray, "n 3"], xy_px: Float[np.ndarray, "F n 2"], middle: int, focal_px: float, loss_px: float
) -> Float[np.ndarray, "F 4 4"]:
    """Poses of all frames, each begun from its neighbour's towards the middle one, whose pose is the identity."""
    poses = np.tile(np.eye(4), (len(xy_px), 1, 1))
    for ahead in (range(middle + 1, len(xy_px)), range(middle - 1, -1, -1)):
        pose = np.eye(4)
        for t in ahead:
            pose, _ = refine_pose(pose, points, xy_px[t], focal_px, 8 * loss_px)
            poses[t] = pose
    return poses
