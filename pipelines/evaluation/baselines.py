"""Single scale combinations that need no samples: what choosing one solution gives, to show what many buy.

All are log scales (K,) in the scene's units, the background's being 0.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipelines.errors import InputError
from pipelines.evaluation.layouts.cameras import array
from pipelines.geometry import at_pixel_centres
from pipelines.scene.evidence import AloneMaps
from pipelines.scene.zone import Zone

_ZONE_SAMPLES = 2000


def ones(maps: AloneMaps) -> Float[np.ndarray, " K"]:
    """All scales 1 after normalisation: units in which every object's median depth, where it is seen, equals the background's.

    So the combination depends on the video, not on the units that SfM happened to choose.
    """
    seen = [(maps.column == k) & np.isfinite(maps.depth[:, k]) for k in range(maps.depth.shape[1])]
    medians = [np.median(maps.depth[:, k][here]) if here.any() else np.nan for k, here in enumerate(seen)]
    return _relative(-np.log(medians))


def depth_prior(maps: AloneMaps, prior: dict[int, Float[np.ndarray, "h w"]]) -> Float[np.ndarray, " K"]:
    """Scales from a monocular depth network: per object the median ratio of the prior's depth to its own.

    prior: depth map at the maps' size for each of `maps.frames` that has one, in any common unit.
    Raises InputError where the background is seen in none of them.
    """
    ratios: list[list[np.ndarray]] = [[] for _ in range(maps.depth.shape[1])]
    for i, frame in enumerate(maps.frames):
        given = prior.get(int(frame))
        if given is None:
            continue
        for k, found in enumerate(ratios):
            here = (maps.column[i] == k) & np.isfinite(maps.depth[i, k]) & np.isfinite(given) & (given > 0)
            found.append(np.log(given[here] / maps.depth[i, k][here]))
    medians = np.array([np.median(np.concatenate(found)) if sum(map(len, found)) else np.nan for found in ratios])
    if not np.isfinite(medians[0]):
        raise InputError("the depth prior shows the background in no frame: give maps (%06d.npy) of filmed frames")
    return _relative(medians)


def zone_centre(zone: Zone, generator: np.random.Generator) -> Float[np.ndarray, " K"]:
    """Centre of mass of the zone in log scales."""
    return zone.sample(_ZONE_SAMPLES, generator).mean(0)


def contact(zone: Zone) -> Float[np.ndarray, " K"]:
    """Each object as far away, and so as large, as the video allows: where it touches what it hides.

    The upper ends of all intervals together satisfy every bound: x_i <= b_i0 <= b_ij + b_j0 in the closed zone. They may spend
    more than the allowance that the pairs share; then it is where the way to them from the zone's middle leaves the zone.
    """
    zone.require_nonempty()
    far = zone.intervals[:, 1]
    members = zone.sample(_ZONE_SAMPLES, np.random.default_rng(0))
    nearest = members[[np.linalg.norm(members - far, axis=1).argmin()]]
    towards = far - nearest
    return (nearest + zone.exit_along(nearest, towards)[:, None] * towards)[0]


def read_depth_prior(folder: Path, maps: AloneMaps) -> dict[int, Float[np.ndarray, "h w"]]:
    """Depth maps (%06d.npy) of the maps' frames, brought to their size.

    Raises InputError where the folder has none of them, or one is not a two-dimensional array.
    """
    height, width = maps.column.shape[1:]
    prior = {}
    for frame in maps.frames.tolist():
        path = folder / f"{frame:06d}.npy"
        if not path.is_file():
            continue
        depth = array(path)
        if depth.ndim != 2:
            raise InputError(f"{path} holds an array of shape {depth.shape}: a depth map has height and width only")
        prior[frame] = at_pixel_centres(depth.astype(np.float32), width, height)
    if not prior:
        raise InputError(f"{folder} has no depth map of the scene's frames: expected files like {maps.frames[0]:06d}.npy")
    return prior


def _relative(log_scale: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Relative to the background; objects that are not known are left at their own unit."""
    return np.nan_to_num(log_scale - log_scale[0], nan=0.0)
