"""What the filmed frames say about points of one object: inside which masks they fall, and which frames see them.

Points and depths are in the object's own frame and unit; pixel centres lie at +0.5.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipelines.artifacts import BACKGROUND
from pipelines.geometry import invert, pixel_centres, ray_directions, transform
from pipelines.scenery import AloneMapsLike

BORDER_WEIGHT = 1e-3
"""Of a colour read at the border of a mask, against one read inside."""


@dataclass(frozen=True)
class ObjectViews:
    """One object in the T' frames where it and its label are known, at h x w pixels.

    depth is +inf where the object alone is not hit; seen is where the mask says that this object is in front;
    background_depth is in the background's unit, +inf where that is not hit either, NaN where something else is seen.
    """

    frames: Int[np.ndarray, " T"]
    intrinsics: Float[np.ndarray, "3 3"]
    cam_from_obj: Float[np.ndarray, "T 4 4"]
    depth: Float[np.ndarray, "T h w"]
    seen: Bool[np.ndarray, "T h w"]
    background_depth: Float[np.ndarray, "T h w"]

    @classmethod
    def of_column(cls, maps: AloneMapsLike, column: int, *, min_opacity: float) -> "ObjectViews":
        """The frames of the maps in which the object registered; hits below the opacity count as misses."""
        known = maps.registered[column]
        depth, behind = (
            np.where(maps.opacity[known, k] >= min_opacity, maps.depth[known, k], np.inf) for k in (column, BACKGROUND)
        )
        return cls(
            frames=maps.frames[known],
            intrinsics=maps.intrinsics,
            cam_from_obj=maps.cam_from_obj[column][known],
            depth=depth,
            seen=maps.column[known] == column,
            background_depth=np.where(maps.column[known] == BACKGROUND, behind, np.nan),
        )

    def projected(self, points: Float[np.ndarray, "N 3"]) -> Iterator[tuple["Projection", int]]:
        """Where the points fall in each frame, one frame at a time."""
        height, width = self.depth.shape[1:]
        for index, cam_from_obj in enumerate(self.cam_from_obj):
            yield Projection.of(points, cam_from_obj, self.intrinsics, width, height), index

    def surface_points(self, stride_px: int) -> Float[np.ndarray, "N 3"]:
        """The seen surface as points in the object's frame, every so many pixels."""
        height, width = self.depth.shape[1:]
        dirs = ray_directions(self.intrinsics, pixel_centres(width, height)[::stride_px, ::stride_px])
        points = []
        for depth, seen, cam_from_obj in zip(self.depth, self.seen, self.cam_from_obj, strict=True):
            z = depth[::stride_px, ::stride_px]
            hit = np.isfinite(z) & seen[::stride_px, ::stride_px]
            points.append(transform(invert(cam_from_obj), (dirs[hit] * z[hit][:, None]).astype(float)))
        return np.concatenate(points) if points else np.zeros((0, 3))


@dataclass(frozen=True)
class Projection:
    """N points in one image: nearest pixel, z-depth, and whether they are in front of the camera and inside the image."""

    row: Int[np.ndarray, " N"]
    column: Int[np.ndarray, " N"]
    xy_px: Float[np.ndarray, "N 2"]
    z: Float[np.ndarray, " N"]
    inside: Bool[np.ndarray, " N"]

    @classmethod
    def of(
        cls,
        points: Float[np.ndarray, "N 3"],
        cam_from_obj: Float[np.ndarray, "4 4"],
        intrinsics: Float[np.ndarray, "3 3"],
        width: int,
        height: int,
    ) -> "Projection":
        image_from_obj = (intrinsics @ cam_from_obj[:3]).astype(points.dtype)
        homogeneous = points @ image_from_obj[:, :3].T + image_from_obj[:, 3]
        z = homogeneous[:, 2]
        in_front = z > 1e-9
        xy_px = homogeneous[:, :2] / np.where(in_front, z, 1.0)[:, None]
        inside = in_front & (xy_px >= 0).all(1) & (xy_px[:, 0] < width) & (xy_px[:, 1] < height)
        pixel = np.where(inside[:, None], xy_px, 0.0).astype(np.int32)
        return cls(pixel[:, 1], pixel[:, 0], xy_px, z, inside)


def silhouette_support(
    points: Float[np.ndarray, "N 3"], views: ObjectViews, *, margin_px: int, largest_scale: float = 0.0
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """In how many frames each point falls inside the object's mask (grown by a margin), and in how many on background behind
    it, which then ought to be hidden.

    Frames say nothing where another object or an unknown label is in front, nor where the background is: its depth is less
    than the point's at the largest scale that the object may have.
    """
    from scipy.ndimage import binary_dilation

    on_object, on_background = np.zeros((2, len(points)), np.int32)
    grow = np.ones((2 * margin_px + 1, 2 * margin_px + 1), bool)
    for projection, index in views.projected(points):
        mask = binary_dilation(views.seen[index], grow) if margin_px else views.seen[index]
        at = projection.row, projection.column
        inside = projection.inside & mask[at]
        on_object += inside
        behind = views.background_depth[index][at] > largest_scale * projection.z
        on_background += projection.inside & ~inside & behind
    return on_object, on_background


def vertex_colours(
    vertices: Float[np.ndarray, "V 3"],
    normals: Float[np.ndarray, "V 3"],
    views: ObjectViews,
    images: "Iterator[UInt8[np.ndarray, 'H W 3']]",
    *,
    tolerance: float,
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, " V"]]:
    """Mean colour of each vertex over the frames that see it, and the weight of that evidence (0: never seen).

    A frame sees a vertex when the mask says the object is in front, the object's depth there agrees within `tolerance`
    (own unit), and the surface faces the camera; it weighs by how squarely and how closely it looks, and next to nothing
    at the mask's border, where pixels mix two objects.
    images: the frames of `views`, in order, at any size.
    """
    from scipy.ndimage import binary_erosion

    total, weight = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    height, width = views.depth.shape[1:]
    vertices = vertices.astype(np.float32)
    for (projection, index), image in zip(views.projected(vertices), images, strict=True):
        at = projection.row, projection.column
        visible = projection.inside & views.seen[index][at]
        visible &= np.abs(views.depth[index][at] - projection.z) <= tolerance + 0.01 * projection.z
        centre = invert(views.cam_from_obj[index])[:3, 3]
        towards = centre - vertices
        distance = np.linalg.norm(towards, axis=1)
        facing = (towards * normals).sum(1) / np.maximum(distance, 1e-9)
        visible &= facing > 0.1
        factor = np.array([image.shape[1] / width, image.shape[0] / height])
        colour = sampled(image, projection.xy_px[visible] * factor) / 255.0
        w = (facing[visible] ** 2 / np.maximum(projection.z[visible], 1e-9)) ** 2
        inner = binary_erosion(views.seen[index], np.ones((3, 3), bool), border_value=1)
        w *= np.where(inner[at][visible], 1.0, BORDER_WEIGHT)
        total[visible] += w[:, None] * colour
        weight[visible] += w
    return total / np.maximum(weight, 1e-12)[:, None], weight


def sampled(image: np.ndarray, xy_px: Float[np.ndarray, "N 2"]) -> np.ndarray:
    """Bilinear values of an image at pixel coordinates, edges repeated.

    OpenCV counts pixel centres as whole numbers and takes at most 32,767 rows, so the points are shifted and folded.
    """
    import cv2

    columns = 1024
    rows = -(-len(xy_px) // columns)
    folded = np.zeros((rows * columns, 2), np.float32)
    folded[: len(xy_px)] = xy_px - 0.5
    if rows == 0:
        return np.zeros((0, *image.shape[2:]), image.dtype)
    x, y = folded[:, 0].reshape(rows, columns), folded[:, 1].reshape(rows, columns)
    found = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(-1, *image.shape[2:])[: len(xy_px)]
