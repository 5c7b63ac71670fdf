"""Guesses of depth that other frames contradict.

A guessed surface that stands in front of what other frames see along the same rays would be in their way. Of the two guesses at
least one is wrong; the one that more frames confirm stays (stability of depth maps: Merrell et al., "Real-Time Visibility-Based
Fusion of Depth Maps", ICCV 2007). Wrong guesses lie beside edges, seen in few frames: training alone would not mend them there.
"""

import numpy as np
from jaxtyping import Bool, Float, Float16, Int, UInt8

from pipelines.geometry import invert, pixel_centres, project, ray_directions, transform
from pipelines.spread import evenly_spread

MOST_SOURCES = 24
"""Frames, evenly spread, that are asked about each guess."""
SAME, IN_THE_WAY = 0.05, 0.1
"""Share of the depth up to which two frames mean the same surface, and from which one's surface is in front of the other's."""


def consistent_guess(
    guess: Float16[np.ndarray, "T h w"],
    column: UInt8[np.ndarray, "T h w"],
    intrinsics: Float[np.ndarray, "3 3"],
    cam_from_obj: Float[np.ndarray, "K T 4 4"],
    registered: Bool[np.ndarray, "K T"],
) -> Float16[np.ndarray, "T h w"]:
    """The guess without what more frames contradict than confirm, and without what no frame confirms although some could.

    guess: z-depth of the seen object `column` in its own unit, 0 for none; intrinsics: at this size.
    """
    kept = guess.copy()
    for k in range(len(cam_from_obj)):
        own = np.where(column == k, guess, 0).astype(np.float32)
        frames = np.flatnonzero(registered[k] & own.any((1, 2)))
        if len(frames) < 2:
            continue
        sources = evenly_spread(frames, MOST_SOURCES)
        for t in frames:
            confirmed, contradicted, asked = _votes(own, int(t), sources[sources != t], intrinsics, cam_from_obj[k])
            refused = (contradicted > confirmed) | ((confirmed == 0) & (asked > 0))
            seen = own[t] > 0
            kept[t][seen] = np.where(refused, 0, guess[t][seen])
    return kept


def _votes(
    depth: Float[np.ndarray, "T h w"],
    t: int,
    sources: Int[np.ndarray, " n"],
    intrinsics: Float[np.ndarray, "3 3"],
    cam_from_obj: Float[np.ndarray, "T 4 4"],
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """For each of frame t's m guesses: frames that see the same surface, that see through it, and that could have told."""
    height, width = depth.shape[1:]
    seen = depth[t] > 0
    rays = ray_directions(intrinsics, pixel_centres(width, height)[seen]).astype(np.float32)
    points_obj = transform(invert(cam_from_obj[t]).astype(np.float32), rays * depth[t][seen][:, None])
    confirmed, contradicted, asked = np.zeros((3, len(points_obj)), int)
    for u in sources:
        points_cam = transform(cam_from_obj[u].astype(np.float32), points_obj)
        xy_px = project(intrinsics.astype(np.float32), points_cam)
        z = points_cam[:, 2]
        inside = (z > 0) & np.all((xy_px >= 0) & (xy_px < (width, height)), axis=1)
        x, y = np.where(inside[:, None], xy_px, 0).astype(int).T
        theirs = depth[u, y, x]
        told = inside & (theirs > 0)
        asked += told
        confirmed += told & (np.abs(theirs - z) <= SAME * z)
        contradicted += told & (theirs > (1 + IN_THE_WAY) * z)
    return confirmed, contradicted, asked
