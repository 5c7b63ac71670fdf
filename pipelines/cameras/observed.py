"""Which of the background a camera that looks from elsewhere shows was really seen while filming.

A field says something everywhere, also behind what always hid it. Such places are marked in renderings, not passed off as
reconstructed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipelines.artifacts import BACKGROUND
from pipelines.geometry import invert, pixel_centres, ray_directions, transform
from pipelines.meshing.views import ObjectViews
from pipelines.scenery import SceneLike, ViewLike

LIGHT, DARK = 0.86, 0.74
"""The two greys of the hatching."""


def seen_points(points: Float[np.ndarray, "N 3"], views: ObjectViews, *, depth_tolerance: float) -> Bool[np.ndarray, " N"]:
    """Points of the object's frame that some filmed frame saw: unoccluded there, at a depth that agrees.

    depth_tolerance: share of the depth by which a point may miss the surface that the frame saw.
    """
    seen = np.zeros(len(points), bool)
    points = points.astype(np.float32)
    for projection, index in views.projected(points):
        at = projection.row, projection.column
        depth = views.depth[index][at]
        with np.errstate(invalid="ignore"):
            agrees = np.abs(depth - projection.z) <= depth_tolerance * projection.z
        seen |= projection.inside & views.seen[index][at] & agrees
    return seen


@dataclass(frozen=True)
class SeenBackground:
    """What the filmed frames saw of the background, and what counts as having been seen."""

    views: ObjectViews
    depth_tolerance: float
    """Share of the depth by which the background may miss the surface that a filmed frame saw, and still count as seen."""
    min_opacity: float
    """Pixels below show nothing."""

    @classmethod
    def of_scene(
        cls, scene: SceneLike, *, n_views: int, width_px: int, depth_tolerance: float, min_opacity: float
    ) -> "SeenBackground":
        """Ask so many filmed frames, evenly spread and rendered at most so wide."""
        from pipelines.meshing.surfaces import viewed_frames

        width = min(width_px, scene.width)
        frames = viewed_frames(scene, n_views)
        size = max(1, round(scene.height * width / scene.width)), width
        rays_of = np.zeros((len(frames), len(scene.object_ids), *size), bool)
        rays_of[:, BACKGROUND] = True
        maps = scene.alone_maps(width=width, frames=frames, rays_of=rays_of)
        views = ObjectViews.of_column(maps, BACKGROUND, min_opacity=min_opacity)
        return cls(views, depth_tolerance, min_opacity)

    def unseen(
        self, view: ViewLike, *, view_from_world: Float[np.ndarray, "4 4"], intrinsics: Float[np.ndarray, "3 3"]
    ) -> Bool[np.ndarray, "h w"]:
        """Pixels of a rendered view that show nothing, or background that no frame saw; specks and hairlines are ignored."""
        import cv2

        height, width = view.depth.shape
        empty = view.opacity < self.min_opacity
        asked = (view.label == BACKGROUND) & ~empty
        dirs = ray_directions(intrinsics, pixel_centres(width, height))[asked]
        points = transform(invert(view_from_world), dirs * view.depth[asked][:, None].astype(float))
        unseen = empty.copy()
        unseen[asked] = ~seen_points(points, self.views, depth_tolerance=self.depth_tolerance)
        side = max(3, round(width / 48) | 1)
        return cv2.medianBlur(unseen.astype(np.uint8), side).astype(bool) & (asked | empty)

    def marked(
        self, view: ViewLike, *, view_from_world: Float[np.ndarray, "4 4"], intrinsics: Float[np.ndarray, "3 3"]
    ) -> Float[np.ndarray, "h w 3"]:
        """The view's colours, with these pixels hatched."""
        return hatched(view.rgb, self.unseen(view, view_from_world=view_from_world, intrinsics=intrinsics))


def hatched(rgb: Float[np.ndarray, "h w 3"], where: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """The image with diagonal grey stripes in some places."""
    height, width = where.shape
    band = max(2, width // 64)
    rows, columns = np.mgrid[:height, :width]
    stripes = np.where((rows + columns) // band % 2 == 0, LIGHT, DARK)
    return np.where(where[..., None], stripes[..., None], rgb).astype(np.float32)
