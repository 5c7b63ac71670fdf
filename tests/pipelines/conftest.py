"""A scene whose surfaces are known in closed form: a ball and a box that move in a room. It stands in for a trained one.

And progress that remembers what it was told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.artifacts import UNKNOWN, Labels, Samples, Video
from pipelines.geometry import (
    invert,
    pixel_centres,
    ray_directions,
    rigid,
    scaled_intrinsics,
    viewed_cam_from_obj,
)
from pipelines.progress import Silent
from pipelines.scene.zone import Zone

DENSITY_INSIDE, EDGE = 300.0, 0.004


@dataclass(frozen=True)
class Ball:
    """Sphere of the given radius about the origin of its own frame."""

    radius: float

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points, axis=-1) - self.radius

    def hit(self, origin: np.ndarray, dirs: np.ndarray) -> np.ndarray:
        a, b = (dirs**2).sum(-1), dirs @ origin
        inner = b**2 - a * (origin @ origin - self.radius**2)
        return np.where(inner > 0, (-b - np.sqrt(np.maximum(inner, 0))) / a, np.inf)


@dataclass(frozen=True)
class Box:
    """Axis-aligned box about the origin, seen from outside, or from inside (a room)."""

    half: tuple[float, float, float]
    inside: bool = False

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        q = np.abs(points) - np.array(self.half)
        distance = np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)
        return -distance if self.inside else distance

    def hit(self, origin: np.ndarray, dirs: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            slabs = np.stack([(sign * np.array(self.half) - origin) / dirs for sign in (-1, 1)])
        enter, leave = slabs.min(0).max(-1), slabs.max(0).min(-1)
        if self.inside:
            return leave
        return np.where((enter < leave) & (enter > 0), enter, np.inf)


def painted(points: np.ndarray) -> np.ndarray:
    """A smooth colour for every point of an object."""
    return 0.5 + 0.4 * np.sin(4.0 * points + np.array([0.0, 1.0, 2.0]))


@dataclass(frozen=True)
class AnalyticField:
    shape: Ball | Box

    def query(self, points: torch.Tensor, dirs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        where = points.detach().cpu().numpy().astype(float)
        density = DENSITY_INSIDE / (1.0 + np.exp(np.clip(self.shape.signed_distance(where) / EDGE, -50, 50)))
        return torch.as_tensor(density, dtype=torch.float32), torch.as_tensor(painted(where), dtype=torch.float32)


@dataclass(frozen=True)
class ToyView:
    rgb: np.ndarray
    depth: np.ndarray
    label: np.ndarray
    opacity: np.ndarray


@dataclass(frozen=True)
class ToyAloneMaps:
    depth: np.ndarray
    opacity: np.ndarray
    column: np.ndarray
    frames: np.ndarray
    intrinsics: np.ndarray
    cam_from_obj: np.ndarray
    registered: np.ndarray


class Notes(Silent):
    """Progress that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@dataclass(frozen=True)
class ToyScene:
    """Column 0 a room of 6 x 4 x 8, column 1 a ball of radius 0.5, column 2 a box; true scale 1 for all of them."""

    cam_from_obj: np.ndarray
    registered: np.ndarray
    intrinsics: np.ndarray
    width: int = 128
    height: int = 96
    fps: float = 10.0
    device: str = "cpu"
    object_ids: tuple[int, ...] = (0, 1, 3)
    names: tuple[str, ...] = ("background", "ball", "box")
    shapes: tuple[Ball | Box, ...] = (Box((3.0, 2.0, 4.0), inside=True), Ball(0.5), Box((0.4, 0.5, 0.3)))
    boxes: np.ndarray = field(
        default_factory=lambda: np.array(
            [[[-3.2, -2.2, -4.2], [3.2, 2.2, 4.2]], [[-0.6] * 3, [0.6] * 3], [[-0.5, -0.6, -0.4], [0.5, 0.6, 0.4]]]
        )
    )

    @property
    def n_frames(self) -> int:
        return self.cam_from_obj.shape[1]

    @property
    def largest_scale(self) -> np.ndarray:
        return np.ones(len(self.shapes))

    @cached_property
    def fields(self) -> Sequence[AnalyticField]:
        return tuple(AnalyticField(shape) for shape in self.shapes)

    def _hits(self, cam_from_obj: np.ndarray, intrinsics: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Depth (K, h, w) in each object's own unit and the points hit (K, h, w, 3) in its own frame."""
        dirs_cam = ray_directions(intrinsics, pixel_centres(width, height)).reshape(-1, 3)
        depths, points = [], []
        for shape, transform_k in zip(self.shapes, cam_from_obj, strict=True):
            obj_from_cam = invert(transform_k)
            dirs = dirs_cam @ obj_from_cam[:3, :3].T
            depth = shape.hit(obj_from_cam[:3, 3], dirs)
            depth = np.where(depth > 0, depth, np.inf)
            points.append(obj_from_cam[:3, 3] + np.where(np.isfinite(depth), depth, 0.0)[:, None] * dirs)
            depths.append(depth)
        return np.reshape(depths, (-1, height, width)), np.reshape(points, (-1, height, width, 3))

    def render(self, *, t, scale, view_from_world=None, intrinsics=None, width=None, height=None) -> ToyView:
        width, height = width or self.width, height or self.height
        if intrinsics is None:
            intrinsics = scaled_intrinsics(self.intrinsics, width / self.width, height / self.height)
        filmed = self.cam_from_obj[0, t]
        view = filmed if view_from_world is None else view_from_world
        seen_from = [viewed_cam_from_obj(view, filmed, m, s) for m, s in zip(self.cam_from_obj[:, t], scale, strict=True)]
        depth, points = self._hits(np.stack(seen_from), intrinsics, width, height)
        depth = depth * np.asarray(scale)[:, None, None]
        depth[~self.registered[:, t]] = np.inf
        column = depth.argmin(0)
        rgb = np.take_along_axis(painted(points), column[None, ..., None], 0)[0]
        nearest = depth.min(0)
        label = np.array(self.object_ids, np.uint8)[column]
        opacity = np.isfinite(nearest).astype(np.float32)
        label[~np.isfinite(nearest)], nearest[~np.isfinite(nearest)] = UNKNOWN, 0.0
        return ToyView(rgb.astype(np.float32), nearest.astype(np.float32), label, opacity)

    def alone_maps(self, *, width: int, frames: Sequence[int], rays_of: np.ndarray | None = None) -> ToyAloneMaps:
        height = round(width * self.height / self.width)
        intrinsics = scaled_intrinsics(self.intrinsics, width / self.width, height / self.height)
        chosen = list(frames)
        depth = np.stack([self._hits(self.cam_from_obj[:, t], intrinsics, width, height)[0] for t in chosen])
        depth[~self.registered[:, chosen].T] = np.inf
        column = depth.argmin(1).astype(np.uint8)
        if rays_of is not None:
            depth[~rays_of] = np.inf
        return ToyAloneMaps(
            depth=depth.astype(np.float32),
            opacity=np.isfinite(depth).astype(np.float32),
            column=column,
            frames=np.array(chosen),
            intrinsics=intrinsics,
            cam_from_obj=self.cam_from_obj[:, chosen],
            registered=self.registered[:, chosen],
        )


def turned(axis: int, angle_rad: float) -> np.ndarray:
    """Rotation about a coordinate axis."""
    i, j = [a for a in range(3) if a != axis]
    rotation = np.eye(3)
    rotation[[i, i, j, j], [i, j, i, j]] = np.cos(angle_rad), -np.sin(angle_rad), np.sin(angle_rad), np.cos(angle_rad)
    return rotation


def make_toy_scene(n_frames: int = 8) -> ToyScene:
    """The camera slides and turns a little; the ball rolls, the box spins through more than half a turn."""
    world_from_obj, world_from_cam = [], []
    for t in range(n_frames):
        u = t / max(n_frames - 1, 1)
        world_from_cam.append(rigid(turned(1, 0.25 * (u - 0.5)), np.array([0.8 * (u - 0.5), -0.2, -3.2])))
        ball = rigid(turned(2, 1.5 * u), np.array([-0.9 + 0.4 * u, 0.1, 0.2]))
        box = rigid(turned(1, 4.0 * u) @ turned(0, 0.3), np.array([0.9 - 0.5 * u, 0.3, 1.0 - 0.4 * u]))
        world_from_obj.append(np.stack([np.eye(4), ball, box]))
    cam_from_world = invert(np.stack(world_from_cam))
    cam_from_obj = np.swapaxes(cam_from_world[:, None] @ np.stack(world_from_obj), 0, 1)
    intrinsics = np.array([[140.0, 0.0, 64.0], [0.0, 140.0, 48.0], [0.0, 0.0, 1.0]])
    return ToyScene(cam_from_obj, np.ones(cam_from_obj.shape[:2], bool), intrinsics)


@pytest.fixture(scope="session")
def toy_scene() -> ToyScene:
    return make_toy_scene()


@pytest.fixture(scope="session")
def toy_video(toy_scene, tmp_path_factory) -> Video:
    """The toy scene's filmed frames."""
    video = Video(
        tmp_path_factory.mktemp("frames"), toy_scene.width, toy_scene.height, toy_scene.n_frames, toy_scene.fps, "toy"
    )
    for t in range(toy_scene.n_frames):
        rgb = toy_scene.render(t=t, scale=np.ones(3)).rgb
        Image.fromarray(np.round(rgb * 255).astype(np.uint8)).save(video.path(t))
    video.save()
    return video


@pytest.fixture(scope="session")
def toy_labels(toy_scene) -> Labels:
    """True label maps; object 2 is named but never seen (it failed), so labels and columns differ."""
    maps = np.stack([toy_scene.render(t=t, scale=np.ones(3)).label for t in range(toy_scene.n_frames)])
    return Labels(maps, ("background", "ball", "lost", "box"))


@pytest.fixture(scope="session")
def toy_samples(toy_scene) -> Samples:
    """Five combinations, of which the fourth has the highest score."""
    log_scale = np.array([[0.0, 0.0, 0.0], [0.0, -0.3, 0.1], [0.0, 0.1, -0.2], [0.0, -0.1, -0.1], [0.0, 0.05, 0.02]])
    return Samples(log_scale, np.array([0.9, 0.8, 0.7, 0.95, 0.6]), np.array(toy_scene.object_ids))


@pytest.fixture(scope="session")
def toy_zone() -> Zone:
    """x1 - x0 <= 0.3 (seen in frame 2), x1 - x2 <= 0.1 (frame 5); all else are limits: +-0.6 for object 1, +-0.5 for 2."""
    bounds = np.array([[0.0, 0.6, 0.5], [0.3, 0.0, 0.1], [0.5, np.inf, 0.0]])
    frame, xy_px = np.full((3, 3), -1), np.full((3, 3, 2), np.nan)
    frame[1, 0], frame[1, 2] = 2, 5
    xy_px[1, 0], xy_px[1, 2] = (40.5, 50.5), (90.5, 60.5)
    assumed = np.isfinite(bounds) & ~np.eye(3, dtype=bool) & (frame < 0)
    return Zone(bounds, frame, xy_px, assumed, np.zeros_like(assumed), 0.005)


@pytest.fixture(scope="session")
def toy_ranges() -> np.ndarray:
    return np.array([[0.0, 0.0], [-0.6, 0.6], [-0.5, 0.5]])
