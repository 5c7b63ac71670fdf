"""The mesh of every object of a scene: extract, cut away what the masks contradict, simplify, colour."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field

from pipelines.artifacts import BACKGROUND, UNKNOWN, Labels, Video
from pipelines.geometry import at_pixel_centres, scaled_intrinsics
from pipelines.meshing.density import density_surface
from pipelines.meshing.fusion import Grid, fused_surface
from pipelines.meshing.mesh import Mesh, decimate, smooth, without_small_components
from pipelines.meshing.views import ObjectViews, silhouette_support, vertex_colours
from pipelines.progress import Progress, Silent
from pipelines.scenery import AloneMapsLike, SceneLike
from pipelines.spread import frames_of_all
from pipelines.stage import StageConfig, StageContext, digest

MESHING_VERSION = 4
"""Raised when the code makes other meshes from the same scene, so that cached ones are not reused."""
LEAST_VIEWS = 8
"""A surface is made from so many frames of an object at least, or from all that it has."""


class Surface(StrEnum):
    """Where a surface comes from."""

    DENSITY = "density"
    """Marching cubes on the field's density: closed, also where the camera never looked."""
    FUSION = "fusion"
    """Fused depth maps: only what the camera saw."""


class MeshConfig(StageConfig):
    """How meshes are made. Cells are counted along the longest side of the object's box."""

    objects: Surface = Surface.FUSION
    background: Surface = Surface.FUSION
    object_cells: int = Field(default=128, ge=16, le=1024)
    """Of a mover's box."""
    background_cells: int = Field(default=256, ge=16, le=1024)
    """Of the background's box."""
    max_faces: int = Field(default=20_000, ge=16)
    """Of a mover's mesh; more are merged."""
    background_max_faces: int = Field(default=150_000, ge=16)
    """Of the background's mesh."""
    max_views: int = Field(default=48, ge=1)
    """Frames whose depth and masks are used, evenly spread over the clip."""
    view_width_px: int = Field(default=384, ge=16)
    """Width at which depth is rendered."""
    min_opacity: float = Field(default=0.5, gt=0, lt=1)
    """A rendered depth counts where the object is at least as opaque as this."""
    min_support_share: float = Field(default=0.8, ge=0, le=1)
    """A place may be the object's where its mask is seen in at least this share of the frames in which it usually is."""
    mask_margin_px: int = Field(default=0, ge=0)
    """A place may lie this far outside a mask."""
    min_component_share: float = Field(default=0.05, ge=0, le=1)
    """Connected parts of less area than this share of the largest one are floaters."""
    truncation_cells: float = Field(default=3.0, gt=1)
    """Fusion: distances beyond this many cells say nothing of a surface."""
    half_opaque_cells: float = Field(default=1.0, gt=0)
    """Density: a layer this many cells thick at the surface's level lets half the light through."""
    smoothing_rounds: int = Field(default=4, ge=0)
    """Rounds of smoothing that keep volume."""


@dataclass(frozen=True)
class MaskedMaps:
    """Depth of each object alone beside the masks at their best size (see `AloneMapsLike`)."""

    depth: Float[np.ndarray, "T K h w"]
    opacity: Float[np.ndarray, "T K h w"]
    column: UInt8[np.ndarray, "T h w"]
    frames: Int[np.ndarray, " T"]
    intrinsics: Float[np.ndarray, "3 3"]
    cam_from_obj: Float[np.ndarray, "K T 4 4"]
    registered: Bool[np.ndarray, "K T"]


def viewed_frames(scene: SceneLike, max_views: int) -> list[int]:
    """So many registered frames, evenly spread, and some more for objects that are there for a short time only."""
    return frames_of_all(scene.registered, max_views, min(LEAST_VIEWS, max_views))


def seen_columns(
    scene: SceneLike, labels: Labels, frames: Sequence[int], width: int, height: int
) -> UInt8[np.ndarray, "T h w"]:
    """Scene column seen at each pixel of reduced frames, 255 unknown; from the label maps at their full size."""
    column_of_label = np.full(256, UNKNOWN, np.uint8)
    column_of_label[list(scene.object_ids)] = np.arange(len(scene.object_ids))
    return column_of_label[at_pixel_centres(labels.maps[list(frames)], width, height)]


def seen_maps(
    scene: SceneLike, labels: Labels, frames: Sequence[int], width: int, progress: Progress | None = None
) -> AloneMapsLike:
    """Each object alone on the rays on which it is seen: a surface is made of nothing else."""
    height = max(1, round(scene.height * width / scene.width))
    column = seen_columns(scene, labels, frames, width, height)
    rays_of = column[:, None] == np.arange(len(scene.object_ids))[:, None, None]
    depth, opacity = np.zeros((2, *rays_of.shape), np.float32)
    with (progress or Silent()).task("depth for meshes", len(frames)) as advance:
        for i, t in enumerate(frames):
            maps = scene.alone_maps(width=width, frames=[t], rays_of=rays_of[i : i + 1])
            depth[i], opacity[i] = maps.depth[0], maps.opacity[0]
            advance(1)
    chosen = np.array(frames)
    intrinsics = scaled_intrinsics(scene.intrinsics, width / scene.width, height / scene.height)
    return MaskedMaps(depth, opacity, column, chosen, intrinsics, scene.cam_from_obj[:, chosen], scene.registered[:, chosen])


def object_mesh(config: MeshConfig, scene: SceneLike, column: int, maps: AloneMapsLike, video: Video) -> Mesh:
    """Coloured mesh of one object in its own frame and unit; empty when nothing of it was seen."""
    views = ObjectViews.of_column(maps, column, min_opacity=config.min_opacity)
    is_background = column == BACKGROUND
    mesh = _surface(config, scene, column, views)
    mesh = without_small_components(mesh, config.min_component_share if not is_background else 0.001)
    mesh = decimate(smooth(mesh, config.smoothing_rounds), config.background_max_faces if is_background else config.max_faces)
    return mesh.coloured(_colours(mesh, scene, column, views, video)) if len(mesh.faces) else mesh


@dataclass(frozen=True)
class _Silhouettes:
    """Where the masks allow the object to be: inside its silhouette in enough of the frames that can tell.

    How many that must be is measured on the object's own seen surface: masks and motions are not exact, and what hides an
    object for a part of the clip (a pillar of the background) may do so at some of its scales only.
    """

    views: ObjectViews
    margin_px: int
    largest_scale: float
    min_share: float = 0.0

    @classmethod
    def of(cls, config: MeshConfig, scene: SceneLike, column: int, views: ObjectViews) -> "_Silhouettes":
        anywhere = cls(views, config.mask_margin_px, float(scene.largest_scale[column]))
        own = anywhere.share_inside(views.surface_points(4))
        usual = float(np.median(own)) if len(own) else 1.0
        return replace(anywhere, min_share=config.min_support_share * usual)

    def allow(self, points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, " N"]:
        share = self.share_inside(points)
        return (share > 0) & (share >= self.min_share)

    def share_inside(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
        """Of the frames that can tell, the share that see each point inside the object's mask."""
        on_object, on_background = silhouette_support(
            points, self.views, margin_px=self.margin_px, largest_scale=self.largest_scale
        )
        return on_object / np.maximum(on_object + on_background, 1)


def _surface(config: MeshConfig, scene: SceneLike, column: int, views: ObjectViews) -> Mesh:
    is_background = column == BACKGROUND
    cells = config.background_cells if is_background else config.object_cells
    match config.background if is_background else config.objects:
        case Surface.DENSITY:
            low, high = scene.boxes[column]
            grid = Grid.uniform(low, high, cells)
            nodes = np.stack(np.meshgrid(*grid.axes, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
            allowed = np.ones(len(nodes), bool) if is_background else _Silhouettes.of(config, scene, column, views).allow(nodes)
            return density_surface(
                scene.fields[column],
                grid,
                allowed.reshape(grid.shape),
                half_opaque_cells=config.half_opaque_cells,
                device=scene.device,
            )
        case Surface.FUSION:
            points = views.surface_points(2)
            if len(points) < 16:
                return Mesh.empty()
            if is_background:
                return fused_surface(views, Grid.covering(points, cells), truncation_nodes=config.truncation_cells)
            return fused_surface(
                views,
                Grid.uniform(scene.boxes[column][0], scene.boxes[column][1], cells),
                truncation_nodes=config.truncation_cells,
                allowed=_Silhouettes.of(config, scene, column, views).allow,
                least_facing=LEAST_MOVER_FACING,
            )
        case unknown:
            assert_never(unknown)


LEAST_MOVER_FACING = 0.35
"""Movers are seen from many sides and their rims are poorly measured: very oblique views are not needed, and thicken them."""


def _colours(mesh: Mesh, scene: SceneLike, column: int, views: ObjectViews, video: Video) -> UInt8[np.ndarray, "V 3"]:
    """From the frames that see a vertex; from the field, looked at along the normal, where none does."""
    size = float(np.linalg.norm(mesh.vertices.max(0) - mesh.vertices.min(0)))
    images = (video.frame(int(t)) for t in views.frames)
    seen_rgb, weight = vertex_colours(mesh.vertices, mesh.normals, views, images, tolerance=0.02 * size)
    unseen = weight == 0
    if unseen.any():
        seen_rgb[unseen] = _field_colours(scene, column, mesh.vertices[unseen], -mesh.normals[unseen])
    return np.round(np.clip(seen_rgb, 0, 1) * 255).astype(np.uint8)


def _field_colours(
    scene: SceneLike, column: int, points: Float[np.ndarray, "N 3"], dirs: Float[np.ndarray, "N 3"]
) -> np.ndarray:
    import torch

    with torch.no_grad():
        rgb = scene.fields[column].query(
            torch.as_tensor(points, dtype=torch.float32, device=scene.device),
            torch.as_tensor(dirs, dtype=torch.float32, device=scene.device),
        )[1]
    return rgb.float().cpu().numpy()


def scene_fingerprint(scene: SceneLike, column: int, *, n_probes: int = 4096) -> str:
    """Content key of one object of a trained scene: its geometry, and its field at fixed places of its box."""
    import torch

    low, high = scene.boxes[column]
    probes = low + (high - low) * np.random.default_rng(0).random((n_probes, 3))
    dirs = np.tile([0.0, 0.0, 1.0], (n_probes, 1))
    with torch.no_grad():
        density, rgb = scene.fields[column].query(
            torch.as_tensor(probes, dtype=torch.float32, device=scene.device),
            torch.as_tensor(dirs, dtype=torch.float32, device=scene.device),
        )
    content = hashlib.sha256()
    for values in (density, rgb):
        content.update(values.float().cpu().numpy().astype(np.float16).tobytes())
    for array in (scene.intrinsics, scene.cam_from_obj[column], scene.registered[column], scene.boxes[column]):
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def scene_meshes(
    config: MeshConfig, *, scene: SceneLike, labels: Labels, video: Video, context: StageContext
) -> Sequence[Mesh]:
    """One mesh per column, made once and kept by content: another sample or another run finds them again."""
    seen = hashlib.sha256(np.ascontiguousarray(labels.maps).tobytes()).hexdigest()
    maps: AloneMapsLike | None = None
    meshes = []
    with context.progress.task("meshes", len(scene.names)) as advance:
        for column, name in enumerate(scene.names):

            def make(folder: Path, column=column) -> None:
                nonlocal maps
                if maps is None:
                    frames = viewed_frames(scene, config.max_views)
                    maps = seen_maps(scene, labels, frames, min(scene.width, config.view_width_px), context.progress)
                object_mesh(config, scene, column, maps, video).save(folder)

            key = [MESHING_VERSION, config.model_dump(mode="json"), scene_fingerprint(scene, column), seen]
            key.append(float(scene.largest_scale[column]))
            meshes.append(Mesh.load(context.items.get(f"mesh_{scene.object_ids[column]:02d}", digest(key), make)))
            if len(meshes[-1].faces) == 0:
                context.progress.note(f"{name}: no surface was found, it has no mesh")
            advance(1)
    return meshes
