"""Rigid bodies that rays can hit, and how one view of several bodies is rendered.

Frames: part (where a shape was made), body (rigid), world, cam. Rays leave the camera with directions of z = 1 in camera
axes, so the ray parameter is z-depth. Depth +inf: nothing hit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Float32, Int, UInt8

from pipelines import geometry
from pipelines.synthetic.shapes import Shape
from pipelines.synthetic.textures import Material

SUBSAMPLES = np.array([[0.125, 0.625], [0.375, 0.125], [0.625, 0.875], [0.875, 0.375]])
"""Where in a pixel the colour samples lie (a rotated grid)."""
_NEAR = 0.05
"""Bodies closer to the camera plane than this many length units are looked for in the whole image."""


@dataclass(frozen=True)
class Part:
    """One shape with one material, placed in its body."""

    shape: Shape
    body_from_part: Float[np.ndarray, "4 4"]
    material: Material
    casts_shadow: bool = True


@dataclass(frozen=True)
class Hits:
    """What rays met. `face` is -1 and depth +inf where nothing."""

    depth: Float[np.ndarray, " n"]
    face: Int[np.ndarray, " n"]
    barycentric: Float32[np.ndarray, "n 2"]


class Body:
    """Several parts that move together."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.vertices, self.faces, self._part_of_face, self._corner_normals = _gather(self.parts)
        self.centre = self.vertices.mean(0)
        self.radius = float(np.linalg.norm(self.vertices - self.centre, axis=1).max())
        self._scene = embree_scene(self.vertices[self.faces])
        casting = np.array([part.casts_shadow for part in self.parts])[self._part_of_face]
        self._shadow_scene = embree_scene(self.vertices[self.faces[casting]]) if casting.any() else None

    @property
    def mesh(self) -> trimesh.Trimesh:
        """The true surface in the body's frame."""
        return trimesh.Trimesh(self.vertices, self.faces, process=False)

    def distance(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Signed distance to the nearest part, body frame (a lower bound outside)."""
        local = [geometry.transform(geometry.invert(part.body_from_part), points) for part in self.parts]
        return np.min([part.shape.distance(p) for part, p in zip(self.parts, local, strict=True)], axis=0)

    def cast(self, origin: Float[np.ndarray, "3"], directions: Float[np.ndarray, "n 3"]) -> Hits:
        """First surface along rays in the body's frame."""
        found = _run(self._scene, np.broadcast_to(origin, directions.shape), directions)
        face = found["primID"].astype(np.int64)
        depth = np.where(face >= 0, found["tfar"], np.inf).astype(directions.dtype)
        return Hits(depth, face, np.stack([found["u"], found["v"]], 1))

    def in_shadow(self, points: Float[np.ndarray, "n 3"], to_light: Float[np.ndarray, "3"]) -> Float[np.ndarray, " n"]:
        """1 where a part stands between the point and the light, else 0. Body frame."""
        if self._shadow_scene is None:
            return np.zeros(len(points))
        found = _run(self._shadow_scene, points + np.float32(2e-3) * to_light, np.broadcast_to(to_light, points.shape))
        return (found["primID"] >= 0).astype(np.float32)

    def surface(
        self, points: Float[np.ndarray, "n 3"], hits: Hits, footprint: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Albedo and unit normal at hit points, body frame. All rays must have hit."""
        second, third = hits.barycentric[:, 0, None], hits.barycentric[:, 1, None]
        corners = self._corner_normals[hits.face]
        normals = (1 - second - third) * corners[:, 0] + second * corners[:, 1] + third * corners[:, 2]
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        albedo = np.zeros((len(points), 3), np.float32)
        part_of_hit = self._part_of_face[hits.face]
        for number, part in enumerate(self.parts):
            here = np.flatnonzero(part_of_hit == number)
            if len(here):
                part_from_body = geometry.invert(part.body_from_part).astype(np.float32)
                local = geometry.transform(part_from_body, points[here])
                albedo[here] = part.material.albedo(local, normals[here] @ part_from_body[:3, :3].T, footprint[here])
        return albedo, normals


def _gather(
    parts: Sequence[Part],
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"], Int[np.ndarray, " f"], Float32[np.ndarray, "f 3 3"]]:
    """All parts' surfaces as one, in the body's frame."""
    vertices = [geometry.transform(part.body_from_part, np.asarray(part.shape.mesh.vertices)) for part in parts]
    first = np.cumsum([0] + [len(v) for v in vertices[:-1]])
    faces = [np.asarray(part.shape.mesh.faces) + start for part, start in zip(parts, first, strict=True)]
    owner = np.repeat(np.arange(len(parts)), [len(f) for f in faces])
    normals = [part.shape.normals @ part.body_from_part[:3, :3].T for part in parts]
    return np.concatenate(vertices), np.concatenate(faces), owner, np.concatenate(normals).astype(np.float32)


def embree_scene(triangles: Float[np.ndarray, "f 3 3"]) -> Any:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(triangles, np.float32))
    return scene


def _run(scene: Any, origins: np.ndarray, directions: np.ndarray) -> dict[str, np.ndarray]:
    return scene.run(
        np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(directions, np.float32), query="INTERSECT", output=True
    )


@dataclass(frozen=True)
class Light:
    """A far lamp with a soft edge, and light from everywhere. Static parts shade static parts; movers cast none,
    so that an object's looks depend on itself and its attitude only."""

    to_light: Float[np.ndarray, "3"]
    ambient: float = 0.66
    sky_share: float = 0.08
    lamp: float = 0.42
    softness: float = 0.09


@dataclass(frozen=True)
class Camera:
    """Pinhole camera in the world."""

    intrinsics: Float[np.ndarray, "3 3"]
    width: int
    height: int
    cam_from_world: Float[np.ndarray, "4 4"]

    def directions(self, xy_px: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 3"]:
        return geometry.ray_directions(self.intrinsics, xy_px)


@dataclass(frozen=True)
class Actors:
    """The bodies at one moment; body 0 is the static surroundings, whose frame is the world.

    With `scale` and `filmed_from_world` it is another scene that looks the same to the filming camera: every body is scaled
    about that camera's centre (DESIGN section 2).
    """

    bodies: tuple[Body, ...]
    world_from_body: Float[np.ndarray, "K 4 4"]
    light: Light = field(default_factory=lambda: Light(np.array([0.0, 0.0, 1.0])))
    scale: Float[np.ndarray, " K"] | None = None
    filmed_from_world: Float[np.ndarray, "4 4"] | None = None

    def depth_alone(self, camera: Camera) -> Float[np.ndarray, "K H W"]:
        """Each body's depth in world units with the others taken away, from the ray through each pixel's centre."""
        xy_px = geometry.pixel_centres(camera.width, camera.height)
        depth = np.full((len(self.bodies), camera.height, camera.width), np.inf)
        for k in range(len(self.bodies)):
            window = self._window(k, camera)
            directions = camera.directions(xy_px[window])
            found = self.cast(k, camera, directions.reshape(-1, 3)).depth.reshape(directions.shape[:2])
            depth[k][window] = self.unit(k) * found
        return depth

    def colours(
        self, camera: Camera, offset_px: Float[np.ndarray, "2"], lamp_shift: Float[np.ndarray, "3"]
    ) -> Float32[np.ndarray, "H W 3"]:
        """Colour of one sample per pixel, at `offset_px` from the pixel's corner."""
        shape = (camera.height, camera.width)
        directions = camera.directions(geometry.pixel_centres(*shape[::-1]) - 0.5 + offset_px).astype(np.float32)
        nearest = np.full(shape, np.inf, np.float32)
        face, barycentric = np.full(shape, -1), np.zeros((*shape, 2), np.float32)
        owner = np.zeros(shape, int)
        for k in range(len(self.bodies)):
            window = self._window(k, camera)
            size = directions[window].shape[:2]
            hits = self.cast(k, camera, directions[window].reshape(-1, 3))
            depth = self.unit(k) * hits.depth.reshape(size)
            closer = depth < nearest[window]
            nearest[window][closer] = depth[closer]
            face[window][closer] = hits.face.reshape(size)[closer]
            barycentric[window][closer] = hits.barycentric.reshape(*size, 2)[closer]
            owner[window][closer] = k
        image = np.zeros((*shape, 3), np.float32)
        for k in range(len(self.bodies)):
            here = (owner == k) & (face >= 0)
            if here.any():
                hits = Hits(nearest[here] / self.unit(k), face[here], barycentric[here])
                image[here] = self._shade(k, camera, directions[here], hits, lamp_shift)
        return image

    def cam_from_body(self, k: int, camera: Camera) -> Float[np.ndarray, "4 4"]:
        """Rigid transform in the body's unit: times the body's scale it gives world units."""
        cam_from_body = camera.cam_from_world @ self.world_from_body[k]
        if self.scale is None or self.filmed_from_world is None:
            return cam_from_body
        filmed = self.filmed_from_world
        return geometry.viewed_cam_from_obj(
            camera.cam_from_world, filmed, filmed @ self.world_from_body[k], float(self.scale[k])
        )

    def unit(self, k: int) -> np.float32:
        """Length of the body's unit in the world."""
        return np.float32(1.0 if self.scale is None else self.scale[k])

    def cast(self, k: int, camera: Camera, directions: Float[np.ndarray, "n 3"]) -> Hits:
        """What rays in camera axes meet of body k alone, depth in the body's unit."""
        body_from_cam = geometry.invert(self.cam_from_body(k, camera))
        return self.bodies[k].cast(body_from_cam[:3, 3], directions @ body_from_cam[:3, :3].T.astype(directions.dtype))

    def _shade(
        self, k: int, camera: Camera, directions: Float[np.ndarray, "n 3"], hits: Hits, lamp_shift: Float[np.ndarray, "3"]
    ) -> Float[np.ndarray, "n 3"]:
        body_from_cam = geometry.invert(self.cam_from_body(k, camera)).astype(np.float32)
        rays = directions @ body_from_cam[:3, :3].T
        points = body_from_cam[:3, 3] + hits.depth[:, None] * rays
        body_from_world = self.world_from_body[k][:3, :3].T.astype(np.float32)
        footprint = hits.depth / np.float32(camera.intrinsics[0, 0] * np.sqrt(len(SUBSAMPLES)))
        albedo, normals = self.bodies[k].surface(points, hits, footprint)
        lamp = self.light.to_light + self.light.softness * lamp_shift
        lamp = (body_from_world @ (lamp / np.linalg.norm(lamp))).astype(np.float32)
        facing = np.maximum(normals @ lamp, 0)
        lit = facing > 0
        if k == 0:
            facing[lit] *= 1 - self.bodies[0].in_shadow(points[lit], lamp)
        up = normals @ body_from_world[:, 2]
        shade = self.light.ambient + self.light.sky_share * up + self.light.lamp * facing
        return albedo * shade[:, None]

    def _window(self, k: int, camera: Camera) -> tuple[slice, slice]:
        """Rows and columns in which body k can be seen (the box of its bounding cube's image)."""
        whole = (slice(0, camera.height), slice(0, camera.width))
        centre = geometry.transform(self.cam_from_body(k, camera), self.bodies[k].centre[None])[0]
        radius = self.bodies[k].radius
        if centre[2] - radius < _NEAR:
            return whole
        cube = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        xy = geometry.project(camera.intrinsics, centre + radius * cube)
        low = np.floor(xy.min(0) - 1).astype(int).clip(0, [camera.width, camera.height])
        high = np.ceil(xy.max(0) + 1).astype(int).clip(0, [camera.width, camera.height])
        return slice(low[1], high[1]), slice(low[0], high[0])


def render_rgb(moments: Sequence[tuple[Actors, Camera]]) -> Float32[np.ndarray, "H W 3"]:
    """Anti-aliased image in [0, 1], the mean over the given moments of an exposure (one moment: no motion blur).

    The moments take turns at the places in a pixel, so that a multiple of four of them costs no more than it must.
    """
    # The soft lamp is sampled along with the pixel, the same at every surface point.
    shifts = np.array([[1, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]], float)
    n_samples = max(len(moments), len(SUBSAMPLES))
    samples = []
    for i in range(n_samples):
        actors, camera = moments[i * len(moments) // n_samples]
        place = i % len(SUBSAMPLES)
        samples.append(actors.colours(camera, SUBSAMPLES[place], shifts[place]))
    return np.clip(np.mean(samples, axis=0), 0, 1)


def nearest_label(depth_alone: Float[np.ndarray, "K H W"]) -> UInt8[np.ndarray, "H W"]:
    """Which body is seen (background where nothing is hit)."""
    return depth_alone.argmin(0).astype(np.uint8)
