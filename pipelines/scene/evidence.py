"""What the masks say about who hides whom: rays that meet two or more objects, with the depth of each object alone.

Symbols and frames
    T', K, h, w     rendered frames, scene columns (column 0 is the background), size of the maps
    depth           z-depth of one object rendered alone, in that object's OWN length unit; +inf where it is not hit.
                    It does not depend on the scales (DESIGN section 2), which only reorder the objects along a ray.
    column          scene column that the mask says is seen; 255 unknown
    observed        this object's surface at this ray was really seen: at the ray itself, or hidden here it is found
                    unoccluded, at a matching depth, in another frame. Elsewhere it is continued from what was seen
                    around: what an object hides where it touches the floor. Such a depth counts, too, because scenes are
                    rendered with it, and it is at contacts that a scale ends; bounds that lean on it say so.
    credible        not a part of a mover that the background hides in most frames: that is an error of its field
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from pipelines.artifacts import BACKGROUND, UNKNOWN, check, read_arrays
from pipelines.errors import WorkspaceError
from pipelines.geometry import invert, pixel_centres, project, ray_directions, transform

MIN_OPACITY = 0.5
"""An object is hit where its opacity, rendered alone, is at least this."""
BORDER_PX = 1
"""How far off (in pixels of the maps) a mask's outline may be. A ray just outside what the mask shows of an object, at that
object's own silhouette, says nothing about its order: a mask that is too small there would otherwise put the surroundings in
front. Rays just inside stay: those on a mover where it touches the ground say the most."""
HALO_PX = 2
"""The same for movers that the background seems to hide. Fields are fatter than masks by more than masks are wrong, and a halo
that counts as hidden keeps the mover behind what it stands before: no scales drawn then would thin it."""
RIM_PX = 2
"""Within so many pixels of an object's surface, a ray on which the mask shows it but its field is too thin takes that surface's
depth. Fields end a little inside of the silhouette, and it is there that an object touches what it stands on."""
MAX_DEPTH_STEP = 0.2
"""A depth is unreliable where one nearby differs by more than this share of it (an edge blends two depths)."""
EDGE_PX = 1
"""How near, in x and y (pixels of the maps)."""
BACKGROUND_EDGE_PX = 2
"""The same for the background. Beside its edges it is seen in few frames, and its depth is smeared."""
DEPTH_TOLERANCE = 0.03
"""Share of the depth by which a hidden point may miss the surface that another frame sees there."""
MIN_SEEN_SHARE = 0.25
"""Of the frames that show a mover's surface or the background in its place, at least this share shows the surface. What the
background hides almost always is rather an error of the field: something just outside of the mover's outline."""


@dataclass(frozen=True)
class AloneMaps:
    """Every object of the scene rendered alone in some frames, and what the masks say is seen there."""

    depth: Float32[np.ndarray, "T K h w"]
    opacity: Float32[np.ndarray, "T K h w"]
    column: UInt8[np.ndarray, "T h w"]
    frames: Int[np.ndarray, " T"]
    intrinsics: Float[np.ndarray, "3 3"]
    """At the size of the maps."""
    cam_from_obj: Float[np.ndarray, "K T 4 4"]
    registered: Bool[np.ndarray, "K T"]


@dataclass(frozen=True)
class OcclusionEvidence:
    """One row per ray that hits two or more objects and whose label is known."""

    depth: Float32[np.ndarray, "R K"]
    opacity: Float32[np.ndarray, "R K"]
    column: UInt8[np.ndarray, " R"]
    frame: Int[np.ndarray, " R"]
    xy_px: Float[np.ndarray, "R 2"]
    """Pixel of the full-size video."""
    observed: Bool[np.ndarray, "R K"]
    credible: Bool[np.ndarray, "R K"]

    def __post_init__(self) -> None:
        n, k = self.depth.shape
        check(
            self.opacity.shape == self.observed.shape == self.credible.shape == (n, k)
            and len(self.column) == len(self.frame) == len(self.xy_px) == n,
            "occlusion evidence has columns of different lengths",
        )

    @classmethod
    def load(cls, path: Path) -> "OcclusionEvidence":
        arrays = read_arrays(path)
        if set(arrays) != {field.name for field in fields(cls)}:
            raise WorkspaceError(f"{path} is of another version: run osn train again")
        return cls(**arrays)

    def save(self, path: Path) -> None:
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})


def evidence_from_maps(maps: AloneMaps, *, full_width: int | None = None) -> OcclusionEvidence:
    """Collect the rays on which the order of objects shows.

    full_width: width of the video, to which `xy_px` refers; without it, pixels are those of the maps.
    """
    maps = _with_rims(maps)
    hit = _reliable_hits(maps)
    height, width = maps.column.shape[1:]
    halo = _at_outline(maps.column, hit, HALO_PX) & (maps.column == BACKGROUND)[:, None]
    counted = hit & ~_at_outline(maps.column, hit, BORDER_PX) & ~halo
    chosen = (counted.sum(1) >= 2) & (maps.column != UNKNOWN)
    t, y, x = np.nonzero(chosen)
    hit_at_ray = counted[t, :, y, x]
    depth = np.where(hit_at_ray, maps.depth[t, :, y, x], np.float32(np.inf))
    centres_px = pixel_centres(width, height)[y, x]
    observed, credible = _seen(maps, hit, depth, t, centres_px, maps.column[t, y, x])
    return OcclusionEvidence(
        depth=depth,
        opacity=maps.opacity[t, :, y, x],
        column=maps.column[t, y, x],
        frame=maps.frames[t],
        xy_px=centres_px * ((full_width or width) / width),
        observed=observed,
        credible=credible,
    )


def _with_rims(maps: AloneMaps) -> AloneMaps:
    """Objects continued to the outlines of their masks, by RIM_PX at most, at the depth of the nearest pixel that is hit."""
    from scipy.ndimage import distance_transform_edt

    depth, opacity = maps.depth.copy(), maps.opacity.copy()
    for t, k in zip(*np.nonzero(maps.registered.T), strict=True):
        seen = maps.column[t] == k
        hit = (opacity[t, k] >= MIN_OPACITY) & np.isfinite(depth[t, k])
        inside, missing = seen & hit, seen & ~hit
        if not inside.any() or not missing.any():
            continue
        distance, nearest = distance_transform_edt(~inside, return_indices=True)
        rim = missing & (distance < RIM_PX + 0.5)
        y, x = nearest[:, rim]
        depth[t, k][rim], opacity[t, k][rim] = depth[t, k, y, x], opacity[t, k, y, x]
    return replace(maps, depth=depth, opacity=opacity)


def _reliable_hits(maps: AloneMaps) -> Bool[np.ndarray, "T K h w"]:
    """Where each object is hit at a depth that is not blended across an edge."""
    from scipy import ndimage

    hit = (maps.opacity >= MIN_OPACITY) & np.isfinite(maps.depth) & maps.registered.T[:, :, None, None]
    reach = [2 * px + 1 for px in (BACKGROUND_EDGE_PX, *[EDGE_PX] * (hit.shape[1] - 1))]
    low, high = np.where(hit, maps.depth, np.inf), np.where(hit, maps.depth, 0.0)
    nearest, farthest = np.empty_like(low), np.empty_like(high)
    for k, px in enumerate(reach):
        nearest[:, k] = ndimage.minimum_filter(low[:, k], size=(1, px, px), mode="nearest")
        farthest[:, k] = ndimage.maximum_filter(high[:, k], size=(1, px, px), mode="nearest")
    # `nearest` is infinite only where nothing is hit, and there `hit` is False anyway.
    return hit & (farthest <= maps.depth * (1 + MAX_DEPTH_STEP)) & (nearest >= maps.depth / (1 + MAX_DEPTH_STEP))


def _at_outline(
    column: UInt8[np.ndarray, "T h w"], hit: Bool[np.ndarray, "T K h w"], border_px: int
) -> Bool[np.ndarray, "T K h w"]:
    """Where an object is not seen but is within border_px (in x and y) of pixels where it is, and of pixels that miss it."""
    from scipy import ndimage

    size = (1, 1, 2 * border_px + 1, 2 * border_px + 1)
    seen = column[:, None] == np.arange(hit.shape[1], dtype=np.uint8)[:, None, None]
    near_seen = ndimage.maximum_filter(seen.view(np.uint8), size=size, mode="nearest").astype(bool)
    # Beyond the image's edge an object goes on: that is no silhouette.
    well_inside = ndimage.minimum_filter(hit.view(np.uint8), size=size, mode="nearest").astype(bool)
    return ~seen & near_seen & ~well_inside


def _seen(
    maps: AloneMaps,
    hit: Bool[np.ndarray, "T K h w"],
    depth: Float[np.ndarray, "R K"],
    t: Int[np.ndarray, " R"],
    xy_px: Float[np.ndarray, "R 2"],
    column: UInt8[np.ndarray, " R"],
) -> tuple[Bool[np.ndarray, "R K"], Bool[np.ndarray, "R K"]]:
    """Whether each object's surface at each ray is observed, and whether it is credible."""
    n_columns = depth.shape[1]
    observed = (column[:, None] == np.arange(n_columns)) & np.isfinite(depth)
    credible = np.isfinite(depth)
    directions = ray_directions(maps.intrinsics, xy_px).astype(np.float32)
    for k in range(n_columns):
        rays = np.nonzero(np.isfinite(depth[:, k]) & (column != k))[0]
        points_cam = depth[rays, k, None] * directions[rays]
        obj_from_cam = invert(maps.cam_from_obj[k])[t[rays]].astype(np.float32)
        points_obj = np.einsum("nij,nj->ni", obj_from_cam[:, :3, :3], points_cam) + obj_from_cam[:, :3, 3]
        seen_surface = np.where(hit[:, k] & (maps.column == k), maps.depth[:, k], np.float32(np.nan))
        views, hidden = _seen_elsewhere(maps, k, points_obj, seen_surface, t[rays])
        observed[rays, k] = views > 0
        if k != BACKGROUND:
            credible[rays, k] = views >= MIN_SEEN_SHARE * (views + hidden)
    return observed, credible


def _seen_elsewhere(
    maps: AloneMaps,
    k: int,
    points_obj: Float[np.ndarray, "n 3"],
    seen_surface: Float[np.ndarray, "T h w"],
    own_frame: Int[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """In how many other frames each point of object k is seen unoccluded, and in how many the background is seen instead.

    seen_surface: the object's depth where it is seen, else NaN.
    """
    height, width = seen_surface.shape[1:]
    views, hidden = np.zeros(len(points_obj), int), np.zeros(len(points_obj), int)
    for u in range(len(seen_surface)):
        if not maps.registered[k, u]:
            continue
        points_cam = transform(maps.cam_from_obj[k, u].astype(np.float32), points_obj)
        xy_px = project(maps.intrinsics.astype(np.float32), points_cam)
        inside = (points_cam[:, 2] > 0) & np.all((xy_px >= 0) & (xy_px < (width, height)), axis=1)
        inside &= own_frame != u
        x, y = xy_px[inside].astype(int).T
        z = points_cam[inside, 2]
        # A comparison with NaN (not seen there) is False.
        views[inside] += np.abs(seen_surface[u, y, x] - z) <= DEPTH_TOLERANCE * z
        hidden[inside] += maps.column[u, y, x] == BACKGROUND
    return views, hidden
