"""A surface fused from many depth maps: the truncated signed distance of Curless and Levoy (SIGGRAPH 1996).

Only what the camera saw gets a surface. The grid is rectilinear: the spacing of each axis may grow outwards, so that one
grid holds near content finely and far walls coarsely; distances are truncated in units of the local spacing. How far behind the
surface a frame is believed is measured across it, not along the ray: at a floor seen at a grazing angle every node behind it
would otherwise be too far away.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipelines.geometry import pixel_centres, ray_directions
from pipelines.meshing.mesh import Mesh
from pipelines.meshing.views import ObjectViews, Projection, sampled

Allowed = Callable[[np.ndarray], np.ndarray]
"""Points (N, 3) to booleans (N,)."""
BLOCK = 8
"""Side of the blocks of grid nodes that are visited or skipped together."""
PLANAR_SHARE = 0.02
"""Where inverse depth differs more than this from its mean over 5 x 5 pixels, the surface is no plane there."""
LEAST_FACING = 0.05
"""More oblique surfaces are treated as this oblique: their normals are mostly noise."""
EDGE_SHARE = 0.15
"""Neighbouring pixels whose inverse depths differ by more than this share lie on different surfaces."""


@dataclass(frozen=True)
class Grid:
    """Coordinates of the nodes along each axis, increasing."""

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = (len(axis) for axis in self.axes)
        return x, y, z

    @classmethod
    def uniform(cls, low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"], longest: int) -> "Grid":
        """Cubic cells, `longest` of them along the longest side."""
        spacing = float((high - low).max()) / longest
        counts = np.maximum(np.ceil((high - low) / spacing).astype(int) + 1, 2)
        x, y, z = (a + spacing * np.arange(n) for a, n in zip(low, counts, strict=True))
        return cls((x, y, z))

    @classmethod
    def covering(cls, points: Float[np.ndarray, "N 3"], longest: int, *, growth: float = 1.08, reach: float = 20.0) -> "Grid":
        """Uniform where most points are (their 2 % to 98 % range), growing outwards up to nearly all of them.

        reach: how far outwards at most, in extents of the uniform part; what lies farther gets no surface.
        """
        low, high = np.quantile(points, [0.02, 0.98], axis=0)
        far_low, far_high = np.quantile(points, [0.001, 0.999], axis=0)
        extent = float((high - low).max())
        far_low, far_high = np.maximum(far_low, low - reach * extent), np.minimum(far_high, high + reach * extent)
        spacing, margin = extent / longest, 4 * extent / longest
        axes = [
            np.concatenate(
                [
                    a - _growing(a - fa + margin, spacing, growth)[::-1],
                    np.arange(a, b + spacing, spacing),
                    np.arange(a, b + spacing, spacing)[-1] + _growing(fb - b + margin, spacing, growth),
                ]
            )
            for a, b, fa, fb in zip(low, high, far_low, far_high, strict=True)
        ]
        x, y, z = axes
        return cls((x, y, z))

    def at(self, index: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Positions of fractional node indices."""
        columns = [np.interp(index[:, a], np.arange(len(axis)), axis) for a, axis in enumerate(self.axes)]
        return np.stack(columns, -1)

    def spacing(self) -> list[np.ndarray]:
        """Distance between neighbouring nodes at each node, per axis."""
        return [np.gradient(axis) for axis in self.axes]


def _growing(reach: float, spacing: float, growth: float) -> np.ndarray:
    """Offsets from an edge outwards, each step a little longer, until they reach far enough."""
    steps = np.log1p(max(reach, 0.0) / spacing * (growth - 1)) / np.log(growth)
    return np.cumsum(spacing * growth ** np.arange(1, int(np.ceil(steps)) + 1))


def _blocks_near(points: np.ndarray, grid: Grid, reach_nodes: int) -> np.ndarray:
    """Which blocks of nodes lie within reach of a point."""
    from scipy.ndimage import binary_dilation

    nodes = np.stack([np.searchsorted(axis, points[:, a]) for a, axis in enumerate(grid.axes)], -1)
    inside = ((nodes > 0) & (nodes < grid.shape)).all(1)
    blocks = np.zeros([-(-n // BLOCK) for n in grid.shape], bool)
    blocks[tuple((nodes[inside] // BLOCK).T)] = True
    rounds = -(-reach_nodes // BLOCK)
    return binary_dilation(blocks, np.ones((3, 3, 3), bool), iterations=rounds)


def seen_depth(depth: Float[np.ndarray, "h w"], projection: Projection) -> Float[np.ndarray, " N"]:
    """Depth map (+inf: nothing) at projected points, +inf outside.

    Within a surface inverse depth is interpolated, which is exact for a plane however obliquely it is seen; at its edges
    the nearest pixel decides.
    """
    import cv2

    inverse = (1.0 / depth).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    highest, lowest = cv2.dilate(inverse, kernel), cv2.erode(inverse, kernel)
    smooth_at = (lowest > 0) & (highest - lowest < EDGE_SHARE * highest)
    at = projection.row, projection.column
    found = np.where(projection.inside, inverse[at], 0.0)
    inner = projection.inside & smooth_at[at]
    found[inner] = sampled(inverse, projection.xy_px[inner])
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / found, np.float32)


def facing(depth: Float[np.ndarray, "h w"], intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "h w"]:
    """Cosine between each pixel's surface and its ray, per unit of z-depth: a point that lies dz in front of the surface, by
    z-depth, is `facing * dz` away from its plane. 1 where the surface is unknown or jumps.

    In normalised image coordinates (u, v) a plane has inverse depth q = a u + b v + c and normal (a, b, c).
    """
    import cv2

    inverse = (1.0 / depth).astype(np.float32)
    known = cv2.erode(inverse, np.ones((5, 5), np.uint8)) > 0
    planar = np.abs(cv2.blur(inverse, (5, 5)) - inverse) < PLANAR_SHARE * inverse
    a = cv2.Sobel(inverse, cv2.CV_32F, 1, 0, ksize=5, scale=1 / 128) * intrinsics[0, 0]
    b = cv2.Sobel(inverse, cv2.CV_32F, 0, 1, ksize=5, scale=1 / 128) * intrinsics[1, 1]
    height, width = depth.shape
    u, v, _ = np.moveaxis(ray_directions(intrinsics, pixel_centres(width, height)), -1, 0)
    c = inverse - a * u - b * v
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = inverse / np.sqrt(a * a + b * b + c * c)
    return np.where(known & planar, np.clip(cosine, LEAST_FACING, 1.0), 1.0).astype(np.float32)


def fused_distance(
    views: ObjectViews,
    grid: Grid,
    *,
    truncation_nodes: float,
    allowed: Allowed | None = None,
    least_facing: float = LEAST_FACING,
    stride_px: int = 2,
) -> tuple[Float[np.ndarray, "X Y Z"], Float[np.ndarray, "X Y Z"]]:
    """Mean truncated signed distance (in truncation lengths, positive in front of the surface) and its weight.

    allowed: which points may belong to the object at all; the others count as free space, which closes silhouettes.
    least_facing: more oblique views are believed behind the surface as if they were this oblique.
    """
    blocks = _blocks_near(views.surface_points(stride_px), grid, int(np.ceil(truncation_nodes)))
    active = blocks.repeat(BLOCK, 0).repeat(BLOCK, 1).repeat(BLOCK, 2)[tuple(slice(n) for n in grid.shape)]
    index = np.argwhere(active)
    points = np.stack([axis[index[:, a]] for a, axis in enumerate(grid.axes)], -1).astype(np.float32)
    steps = np.max([step[index[:, a]] for a, step in enumerate(grid.spacing())], 0)
    truncation = (truncation_nodes * steps).astype(np.float32)
    total, weight = np.zeros((2, len(points)), np.float32)
    for projection, k in views.projected(points):
        depth = seen_depth(np.where(views.seen[k], views.depth[k], np.inf), projection)
        oblique = np.maximum(facing(views.depth[k], views.intrinsics), least_facing)[projection.row, projection.column]
        with np.errstate(invalid="ignore"):
            ahead = (depth - projection.z) / truncation
        known = projection.inside & np.isfinite(depth) & (ahead * oblique > -1)
        # Nearby looks resolve more: pixels cover an area that grows with the squared depth.
        w = np.where(known, 1.0 / np.maximum(projection.z, 1e-6) ** 2, 0.0).astype(np.float32)
        total += w * np.where(known, np.clip(ahead, -1.0, 1.0), 0.0)
        weight += w
    if allowed is not None:
        free = ~allowed(points)
        total[free], weight[free] = 1.0, 1.0
    distance, weights = np.ones(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    distance[active] = np.where(weight > 0, total / np.maximum(weight, 1e-20), 1.0)
    weights[active] = weight
    return distance, weights


def fused_surface(
    views: ObjectViews,
    grid: Grid,
    *,
    truncation_nodes: float,
    allowed: Allowed | None = None,
    least_facing: float = LEAST_FACING,
) -> Mesh:
    """Zero level of the fused distance, only through cells whose eight corners were all observed."""
    from skimage.measure import marching_cubes

    distance, weight = fused_distance(
        views, grid, truncation_nodes=truncation_nodes, allowed=allowed, least_facing=least_facing
    )
    known = weight > 0
    whole = known[:-1, :-1, :-1].copy()
    for dx, dy, dz in np.ndindex(2, 2, 2):
        whole &= known[dx : dx + whole.shape[0], dy : dy + whole.shape[1], dz : dz + whole.shape[2]]
    cells = np.zeros_like(known)
    # scikit-image looks a cell up by its far corner.
    cells[1:, 1:, 1:] = whole
    inside, outside = (distance < 0) & known, (distance > 0) & known
    if not cells.any() or not inside.any() or not outside.any():
        return Mesh.empty()
    try:
        vertices, faces, _, _ = marching_cubes(distance, 0.0, mask=cells, gradient_direction="descent")
    except RuntimeError:
        # No cell that was seen as a whole holds the surface.
        return Mesh.empty()
    return Mesh.build(grid.at(vertices), faces)
