"""Making a synthetic scene, and writing it in the layout of `pipelines.ground_truth`.

A folder that was written holds `scene.json`, too, from which the same bodies are made again: so other scenes that film the
same video can be rendered later (`pipelines.evaluation.multi_truth`).

Symbols: T frames, K bodies including the surroundings (0), H x W pixels. World: z up; each mover has its own frame
(`world_from_object`); the surroundings' frame is the world. Depth is z-depth, 0 = nothing hit in the arrays given out.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Float32, UInt8

from pipelines import geometry, palette_png
from pipelines.errors import InputError
from pipelines.formats.mp4 import mp4_writer
from pipelines.ground_truth import GroundTruth, numbered_images
from pipelines.json_files import read_json, write_json
from pipelines.synthetic.bodies import Actors, Camera, Light, nearest_label, render_rgb
from pipelines.synthetic.casting import Cast, cast_movers, frame_times, mover_bodies
from pipelines.synthetic.motion import CameraPath
from pipelines.synthetic.spec import SceneSpec, Surroundings, Variant
from pipelines.synthetic.surroundings import make_surroundings

_FOCAL_WIDTHS = 1.05
"""Focal length in image widths."""
_BLUR_MOMENTS = 8
_SEEN_TOLERANCE = 0.004
"""A surface point is seen in another frame where the ray to it first hits within this share of its depth."""
_VIDEO_CRF = 10


SPEC_FILE = "scene.json"
"""The `SceneSpec` that a folder's scene was made from."""


@dataclass(frozen=True)
class World:
    """Bodies, their motion, light and cameras: all that is needed to render a scene, and no picture of it yet."""

    spec: SceneSpec
    intrinsics: Float[np.ndarray, "3 3"]
    path: CameraPath
    cast: Cast
    light: Light
    cam_from_world_train: Float[np.ndarray, "T 4 4"]
    cam_from_world_test: Float[np.ndarray, "T 4 4"]

    @property
    def names(self) -> tuple[str, ...]:
        return self.cast.names

    @property
    def world_from_object(self) -> Float[np.ndarray, "T K 4 4"]:
        return self.cast.world_from_body

    @property
    def meshes(self) -> tuple[trimesh.Trimesh, ...]:
        """True surfaces, each in its object's own frame."""
        return tuple(body.mesh for body in self.cast.bodies)

    def actors(self, t: int, scale: Float[np.ndarray, " K"] | None = None) -> Actors:
        """The bodies at frame t; with scales (relative to the true ones) those of another scene that films the same."""
        filmed = self.cam_from_world_train[t]
        return Actors(self.cast.bodies, self.world_from_object[t], self.light, scale, filmed)

    def camera(self, cam_from_world: Float[np.ndarray, "4 4"]) -> Camera:
        return Camera(self.intrinsics, self.spec.width, self.spec.height, cam_from_world)


@dataclass(frozen=True)
class SyntheticScene(World):
    """Images and their exact truth, in memory."""

    images_train: UInt8[np.ndarray, "T H W 3"]
    images_test: UInt8[np.ndarray, "T H W 3"]
    depth_train: Float32[np.ndarray, "T H W"]
    depth_test: Float32[np.ndarray, "T H W"]
    segm_train: UInt8[np.ndarray, "T H W"]
    segm_test: UInt8[np.ndarray, "T H W"]
    depth_alone: Float32[np.ndarray, "T K H W"]

    def ground_truth(self, folder: Path) -> GroundTruth:
        """The truth as evaluation reads it; `folder` is where the images are or will be written."""
        spec = self.spec
        return GroundTruth(
            folder=folder,
            intrinsics=self.intrinsics,
            width=spec.width,
            height=spec.height,
            fps=spec.fps,
            cam_from_world_train=self.cam_from_world_train,
            cam_from_world_test=self.cam_from_world_test,
            frame_test=np.arange(spec.n_frames),
            images_train=numbered_images(folder / "images_train", spec.n_frames),
            images_test=numbered_images(folder / "images_test", spec.n_frames),
            world_from_object=self.world_from_object,
            depth_train=self.depth_train,
            depth_test=self.depth_test,
            segm_train=self.segm_train,
            segm_test=self.segm_test,
            depth_alone=self.depth_alone,
        )

    def flow(self, t: int, u: int) -> tuple[Float32[np.ndarray, "H W 2"], Bool[np.ndarray, "H W"]]:
        """Exact flow from frame t to frame u in px, and where the surface point is seen in frame u, too."""
        xy_px = geometry.pixel_centres(self.spec.width, self.spec.height)
        points_t = self.depth_train[t][..., None] * geometry.ray_directions(self.intrinsics, xy_px)
        points_u, label = np.zeros_like(points_t), self.segm_train[t]
        for k in range(len(self.names)):
            from_t = self.cam_from_world_train[t] @ self.world_from_object[t, k]
            from_u = self.cam_from_world_train[u] @ self.world_from_object[u, k]
            points_u[label == k] = geometry.transform(from_u @ geometry.invert(from_t), points_t[label == k])
        target_px = geometry.project(self.intrinsics, points_u)
        inside = (points_u[..., 2] > 0) & (target_px >= 0).all(-1) & (target_px <= [self.spec.width, self.spec.height]).all(-1)
        seen = inside.copy()
        seen[inside] = self._first_hit(u, points_u[inside])
        return (target_px - xy_px).astype(np.float32), seen

    def _first_hit(self, u: int, points_cam: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Whether nothing hides the points from the camera at frame u."""
        actors, camera = self.actors(u), self.camera(self.cam_from_world_train[u])
        directions = points_cam / points_cam[:, 2:]
        nearest = np.min([actors.cast(k, camera, directions).depth for k in range(len(self.names))], axis=0)
        return nearest > points_cam[:, 2] * (1 - _SEEN_TOLERANCE)

    def write(self, folder: Path, flow: bool = False) -> GroundTruth:
        """The folder that docs/formats.md describes; flow/%06d_%06d.npz on request."""
        for name in ("images_train", "images_test", "masks", "meshes"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        truth = self.ground_truth(folder)
        truth.save(folder)
        write_json(folder / SPEC_FILE, asdict(self.spec))
        for t in range(self.spec.n_frames):
            write_rgb(truth.images_train[t], self.images_train[t])
            write_rgb(truth.images_test[t], self.images_test[t])
            palette_png.write(folder / "masks" / f"{t:06d}.png", self.segm_train[t])
        for k, (name, mesh) in enumerate(zip(self.names, self.meshes, strict=True)):
            mesh.export(folder / "meshes" / f"{k:02d}_{name}.ply")
        write_video(folder / "video.mp4", self.images_train, self.spec.fps)
        if flow:
            self._write_flow(folder / "flow")
        return truth

    def _write_flow(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for t in range(self.spec.n_frames - 1):
            for first, second in ((t, t + 1), (t + 1, t)):
                flow_px, seen = self.flow(first, second)
                np.savez_compressed(folder / f"{first:06d}_{second:06d}.npz", flow=flow_px, seen=seen)


def make_scene(spec: SceneSpec) -> SyntheticScene:
    """Draw, check and render a scene. Raises UsageError where the seed leaves no room for the movers."""
    rng = np.random.default_rng(spec.seed)
    return _Renderer(_draw_world(spec, rng)).render(rng)


def make_world(spec: SceneSpec) -> World:
    """What `make_scene` renders, without the images: a small part of its time."""
    return _draw_world(spec, np.random.default_rng(spec.seed))


def load_world(folder: Path) -> World:
    """Make the world of a written scene again.

    Raises InputError: the folder does not say what it was made from, or this version makes something else of it.
    """
    if not (folder / SPEC_FILE).is_file():
        raise InputError(
            f"{folder} has no {SPEC_FILE}: scenes that film the same video can only be rendered for a synthetic scene"
        )
    try:
        stored = read_json(folder / SPEC_FILE)
        surroundings = stored.pop("surroundings")
        spec = SceneSpec(
            **stored | {"variant": Variant(stored["variant"])},
            surroundings=None if surroundings is None else Surroundings(surroundings),
        )
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{folder / SPEC_FILE} does not describe a synthetic scene ({error}): write it again") from None
    world = make_world(spec)
    stored_motion = GroundTruth.load(folder).cam_from_obj()
    motion = (world.cam_from_world_train[:, None] @ world.world_from_object).swapaxes(0, 1)
    if stored_motion.shape != motion.shape or not np.allclose(stored_motion, motion, atol=1e-6):
        raise InputError(f"{folder} was made by another version of the program: make the scene again")
    return world


def _draw_world(spec: SceneSpec, rng: np.random.Generator) -> World:
    n_texels = 512 if spec.width > 200 else 256
    resolution = 56 if spec.width > 200 else 36
    kind = spec.surroundings or list(Surroundings)[int(rng.uniform() < 0.35)]
    static = make_surroundings(kind, rng, n_texels, resolution)
    movers, names = mover_bodies(spec, rng, n_texels, resolution)
    path = CameraPath.draw(rng, spec.variant)
    focal_px = _FOCAL_WIDTHS * spec.width
    intrinsics = np.array([[focal_px, 0, spec.width / 2], [0, focal_px, spec.height / 2], [0, 0, 1]])
    cast = cast_movers(spec, rng, intrinsics, path, static, movers, names)
    azimuth = rng.uniform(0.6, 1.1) * rng.choice([-1, 1])
    to_light = np.array([0.7 * np.sin(azimuth), -0.7 * np.cos(azimuth), 0.9])
    time = frame_times(spec.n_frames)
    return World(
        spec=spec,
        intrinsics=intrinsics,
        path=path,
        cast=cast,
        light=Light(to_light / np.linalg.norm(to_light)),
        cam_from_world_train=path.cam_from_world(time),
        cam_from_world_test=path.cam_from_world(time, held_out=True),
    )


@dataclass(frozen=True)
class _Renderer:
    world: World

    def render(self, rng: np.random.Generator) -> SyntheticScene:
        world, spec = self.world, self.world.spec
        actors = [Actors(world.cast.bodies, world_from_body, world.light) for world_from_body in world.world_from_object]
        train = [world.camera(m) for m in world.cam_from_world_train]
        test = [world.camera(m) for m in world.cam_from_world_test]
        alone_train = np.stack([a.depth_alone(c) for a, c in zip(actors, train, strict=True)])
        alone_test = np.stack([a.depth_alone(c) for a, c in zip(actors, test, strict=True)])
        images_train = [self._expose(t, actors[t], train[t]) for t in range(spec.n_frames)]
        images_test = [render_rgb([(a, c)]) for a, c in zip(actors, test, strict=True)]
        return SyntheticScene(
            **{field.name: getattr(world, field.name) for field in fields(world)},
            images_train=_eight_bits(images_train, spec.noise_levels, rng),
            images_test=_eight_bits(images_test, 0.0, rng),
            depth_train=_zero_where_nothing(alone_train.min(1)),
            depth_test=_zero_where_nothing(alone_test.min(1)),
            segm_train=np.stack([nearest_label(alone) for alone in alone_train]),
            segm_test=np.stack([nearest_label(alone) for alone in alone_test]),
            depth_alone=_zero_where_nothing(alone_train),
        )

    def _expose(self, t: int, actors: Actors, camera: Camera) -> Float32[np.ndarray, "H W 3"]:
        world, spec = self.world, self.world.spec
        if spec.variant is not Variant.MOTION_BLUR or spec.n_frames < 2:
            return render_rgb([(actors, camera)])
        frame_duration = 1 / (spec.n_frames - 1)
        centre = frame_times(spec.n_frames)[t]
        moments = np.clip(centre + frame_duration * np.linspace(-0.5, 0.5, _BLUR_MOMENTS), 0, 1)
        cameras = [world.camera(m) for m in world.path.cam_from_world(moments)]
        bodies = [Actors(world.cast.bodies, m, world.light) for m in world.cast.at(moments)]
        return render_rgb(list(zip(bodies, cameras, strict=True)))


def _eight_bits(
    images: list[Float32[np.ndarray, "H W 3"]], noise_levels: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "T H W 3"]:
    levels = 255 * np.stack(images)
    if noise_levels > 0:
        levels += noise_levels * rng.normal(size=levels.shape).astype(np.float32)
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def _zero_where_nothing(depth: Float[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32)


def write_rgb(path: Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    from PIL import Image

    Image.fromarray(image).save(path)


def write_video(path: Path, images: UInt8[np.ndarray, "T H W 3"], fps: float) -> None:
    """H.264 at high quality. What the chain makes of a seed depends on every bit of it, so the rate factor is named here."""
    _, height, width, _ = images.shape
    with mp4_writer(path, width, height, fps, crf=_VIDEO_CRF) as add:
        for image in images:
            add(image)
