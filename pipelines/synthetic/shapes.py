"""Toy shapes as signed distance functions, and their meshes.

A signed distance function takes points (n, 3) and returns distances (n,), negative inside. Meshes come from marching
cubes, distances serve the proof that nothing interpenetrates. Combined shapes give bounds rather than exact distances
(never more than the true distance outside), which is the safe side for that proof.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from jaxtyping import Float

Distance = Callable[[np.ndarray], np.ndarray]
Vector = Sequence[float | int] | np.ndarray


@dataclass(frozen=True)
class Shape:
    """A closed surface in its own frame. `normals` are per face corner, so that flat shapes stay flat."""

    mesh: trimesh.Trimesh
    normals: Float[np.ndarray, "faces 3 3"]
    distance: Distance

    @property
    def radius(self) -> float:
        """Of the bounding sphere about the own origin."""
        return float(np.linalg.norm(self.mesh.vertices, axis=1).max())


def ball(centre: Vector, radii: float | Vector) -> Distance:
    """Sphere, or ellipsoid with three radii (distance underestimated)."""
    radius = np.broadcast_to(np.asarray(radii, float), 3)
    return lambda p: (np.linalg.norm((p - centre) / radius, axis=1) - 1) * radius.min()


def rounded_box(centre: Vector, half: Vector, rounding: float) -> Distance:
    inner = np.asarray(half, float) - rounding

    def distance(p: np.ndarray) -> np.ndarray:
        q = np.abs(p - centre) - inner
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0) - rounding

    return distance


def rounded_cylinder(centre: Vector, radius: float, half_length: float, rounding: float, axis: int = 2) -> Distance:
    def distance(p: np.ndarray) -> np.ndarray:
        local = np.asarray(p - centre)
        across = np.linalg.norm(np.delete(local, axis, 1), axis=1) - (radius - rounding)
        along = np.abs(local[:, axis]) - (half_length - rounding)
        outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
        return outside + np.minimum(np.maximum(across, along), 0) - rounding

    return distance


def capsule(a: Vector, b: Vector, radius: float) -> Distance:
    start, axis = np.asarray(a, float), np.asarray(b, float) - np.asarray(a, float)

    def distance(p: np.ndarray) -> np.ndarray:
        along = np.clip((p - start) @ axis / (axis @ axis), 0, 1)
        return np.linalg.norm(p - start - along[:, None] * axis, axis=1) - radius

    return distance


def ring(radius: float, thickness: float) -> Distance:
    return lambda p: np.hypot(np.hypot(p[:, 0], p[:, 1]) - radius, p[:, 2]) - thickness


def star(points: int, outer: float, inner: float, half_height: float) -> Distance:
    """Prism over a soft star. The division by 2 keeps the bound safe where the outline is steep."""

    def distance(p: np.ndarray) -> np.ndarray:
        angle = np.arctan2(p[:, 1], p[:, 0])
        outline = inner + (outer - inner) * (0.5 + 0.5 * np.cos(points * angle)) ** 1.5
        across = np.hypot(p[:, 0], p[:, 1]) - outline
        along = np.abs(p[:, 2]) - half_height
        return 0.5 * smooth_max(across, along, 0.08)

    return distance


def smooth_max(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    return np.maximum(a, b) + np.maximum(blend - np.abs(a - b), 0) ** 2 / (4 * blend)


def joined(parts: Sequence[Distance], blend: float) -> Distance:
    """Union with rounded seams."""

    def distance(p: np.ndarray) -> np.ndarray:
        total = parts[0](p)
        for part in parts[1:]:
            total = -smooth_max(-total, -part(p), blend)
        return total

    return distance


def duck() -> Distance:
    body = ball((0, 0, -0.2), (0.75, 0.5, 0.45))
    tail = ball((-0.7, 0, 0.1), (0.25, 0.18, 0.16))
    return joined([body, tail, ball((0.42, 0, 0.38), 0.36), ball((0.84, 0, 0.33), (0.22, 0.16, 0.08))], 0.12)


def bear() -> Distance:
    head, belly = ball((0, 0, 0.5), 0.4), ball((0, 0, -0.25), (0.52, 0.46, 0.55))
    ears = [ball((0, side * 0.32, 0.85), 0.15) for side in (-1, 1)]
    feet = [ball((0.42, side * 0.3, -0.62), (0.3, 0.2, 0.2)) for side in (-1, 1)]
    return joined([belly, head, ball((0.36, 0, 0.42), 0.16), *ears, *feet], 0.08)


def car() -> Distance:
    body = rounded_box((0, 0, -0.1), (0.95, 0.46, 0.24), 0.12)
    cabin = rounded_box((-0.12, 0, 0.28), (0.48, 0.38, 0.26), 0.14)
    wheels = [rounded_cylinder((x, y, -0.32), 0.25, 0.12, 0.05, axis=1) for x in (-0.55, 0.55) for y in (-0.42, 0.42)]
    return joined([body, cabin, *wheels], 0.05)


def rocket() -> Distance:
    fins = [rounded_box((c, s, -0.6), (0.1 + 0.3 * abs(c), 0.1 + 0.3 * abs(s), 0.25), 0.07) for c, s in
            ((0.35, 0), (-0.35, 0), (0, 0.35), (0, -0.35))]  # fmt: skip
    return joined([ball((0, 0, 0.05), (0.36, 0.36, 0.95)), *fins], 0.08)


def jack() -> Distance:
    return joined([capsule(-0.75 * axis, 0.75 * axis, 0.24) for axis in np.eye(3)], 0.1)


def mushroom() -> Distance:
    return joined([rounded_cylinder((0, 0, -0.4), 0.3, 0.45, 0.1), ball((0, 0, 0.2), (0.75, 0.75, 0.45))], 0.06)


MOVER_SHAPES: dict[str, Callable[[], Distance]] = {
    "block": lambda: rounded_box((0, 0, 0), (0.8, 0.62, 0.55), 0.1),
    "duck": duck,
    "ring": lambda: ring(0.68, 0.29),
    "car": car,
    "star": lambda: star(5, 0.95, 0.5, 0.32),
    "bear": bear,
    "drum": lambda: rounded_cylinder((0, 0, 0), 0.62, 0.6, 0.12),
    "rocket": rocket,
    "jack": jack,
    "mushroom": mushroom,
}
"""All fit into a ball of radius about 1.1 and stand along z."""


def mesh_shape(distance: Distance, reach: Vector, resolution: int) -> Shape:
    """Surface of a distance function inside the box [-reach, reach], with `resolution` cubes along the longest side."""
    from skimage.measure import marching_cubes

    half = np.asarray(reach, float)
    step = 2 * half.max() / resolution
    axes = [np.arange(-side - step, side + 1.5 * step, step) for side in half]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    volume = distance(grid.reshape(-1, 3)).reshape(grid.shape[:3])
    vertices, faces, _, _ = marching_cubes(volume, 0.0, spacing=(step,) * 3)
    vertices = vertices + [axis[0] for axis in axes]
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    if mesh.volume < 0:
        mesh = trimesh.Trimesh(vertices, faces[:, ::-1], process=False)
    return Shape(mesh, _gradient(distance, vertices)[np.asarray(mesh.faces)], distance)


def _gradient(distance: Distance, points: Float[np.ndarray, "n 3"], step: float = 1e-3) -> Float[np.ndarray, "n 3"]:
    """Unit normals of a distance function by central differences."""
    slopes = [distance(points + step * axis) - distance(points - step * axis) for axis in np.eye(3)]
    normals = np.stack(slopes, 1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def scaled(shape: Shape, radius: float) -> Shape:
    """The shape about its bounding box's centre, grown to the given bounding radius."""
    centre = shape.mesh.bounds.mean(0)
    factor = radius / float(np.linalg.norm(shape.mesh.vertices - centre, axis=1).max())
    mesh = trimesh.Trimesh((shape.mesh.vertices - centre) * factor, shape.mesh.faces, process=False)
    return Shape(mesh, shape.normals, lambda p: shape.distance(p / factor + centre) * factor)


def flat_box(half: Vector, inward: bool = False) -> Shape:
    """A box with exact edges about the origin; inward: seen from the inside, like a room."""
    mesh = trimesh.creation.box(2 * np.asarray(half, float))
    sign = -1.0 if inward else 1.0
    solid = rounded_box((0, 0, 0), half, 0.0)
    normals = np.repeat(sign * mesh.face_normals[:, None], 3, 1)
    return Shape(mesh, normals, lambda p: sign * solid(p))
