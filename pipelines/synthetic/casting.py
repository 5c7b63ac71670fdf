"""Choosing the movers: shapes, materials and paths, without interpenetration with as many occlusions as a few tries give."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipelines import geometry
from pipelines.errors import UsageError
from pipelines.synthetic import motion, shapes, textures
from pipelines.synthetic.bodies import Actors, Body, Camera, Part
from pipelines.synthetic.motion import CameraPath, Path
from pipelines.synthetic.spec import SceneSpec, Variant

_PLACEMENTS = 60
"""Tries to place one mover beside the others before the whole placement is drawn anew."""
_ROUNDS = 80
_PREVIEW_FRAMES = 9
_CHECKED_MOMENTS = 33
_PREVIEW_WIDTH = 96
_MIN_VISIBLE = 0.4
"""Each mover shows at least this share of its silhouette on average, and lies inside the picture."""
_TINY_RADIUS = 0.04
_LEAVING_LANE = -0.35
"""Near enough for the picture to be narrow, clear of the pillar in front."""
_LEADER_LIFT = 0.3
"""Room below the leader for the one that is tied to it."""


@dataclass(frozen=True)
class Cast:
    """Bodies (0: surroundings) and their motion at the film's times."""

    bodies: tuple[Body, ...]
    names: tuple[str, ...]
    world_from_body: Float[np.ndarray, "T K 4 4"]
    paths: tuple[Path, ...]

    def at(self, time: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n K 4 4"]:
        """Motion at any times in [0, 1]."""
        still = np.tile(np.eye(4), (len(time), 1, 1))
        return np.stack([still, *(path.world_from_body(time) for path in self.paths)], 1)


def mover_bodies(spec: SceneSpec, rng: np.random.Generator, n_texels: int, resolution: int) -> tuple[list[Body], list[str]]:
    """Toys of different shapes, each with its own texture."""
    names = [str(name) for name in rng.permutation(list(shapes.MOVER_SHAPES))[: spec.movers]]
    styles = rng.permutation(len(textures.STYLES))
    base_radius = 0.6 * (3 / max(spec.movers, 3)) ** 0.45
    bodies = []
    for k, name in enumerate(names):
        solid = shapes.mesh_shape(shapes.MOVER_SHAPES[name](), (1.15, 1.15, 1.15), resolution)
        radius = base_radius * rng.uniform(0.9, 1.15)
        palette = textures.pastel_palette(rng, 6)
        style = textures.STYLES[styles[k % len(styles)]]
        material = textures.paint(rng, style, palette, n_texels, 0.75 * radius / base_radius)
        if k == 0 and spec.variant is Variant.TINY_OBJECT:
            radius = _TINY_RADIUS
        if k == 0 and spec.variant is Variant.TEXTURELESS_OBJECT:
            material = textures.plain(palette[0])
        bodies.append(Body([Part(shapes.scaled(solid, radius), np.eye(4), material)]))
    return bodies, names


def cast_movers(
    spec: SceneSpec,
    rng: np.random.Generator,
    intrinsics: Float[np.ndarray, "3 3"],
    path: CameraPath,
    static: Body,
    movers: list[Body],
    names: list[str],
) -> Cast:
    """The best of `spec.candidates` placements.

    Raises UsageError where none is found (a seed so unlucky that another one must be chosen).
    """
    time = frame_times(spec.n_frames)
    # A fixed set of moments besides the frames, so that a clip with other frames shows the same scene.
    checked = np.union1d(time, np.linspace(0, 1, _CHECKED_MOMENTS))
    best: tuple[float, tuple[Path, ...]] | None = None
    found = 0
    for _ in range(_ROUNDS):
        paths = _place(spec, rng, path, checked, static, movers)
        if paths is None:
            continue
        candidate = Cast((static, *movers), ("background", *names), np.zeros((0, 1, 4, 4)), paths)
        score = _score(spec, candidate, intrinsics, path)
        found += score > 0
        if best is None or score > best[0]:
            best = (score, paths)
        if found >= spec.candidates or not movers:
            break
    if best is None:
        raise UsageError(f"seed {spec.seed} has no room for {spec.movers} movers: choose another seed")
    cast = Cast((static, *movers), ("background", *names), np.zeros((0, 1, 4, 4)), best[1])
    return Cast(cast.bodies, cast.names, cast.at(time), cast.paths)


def frame_times(n_frames: int) -> Float[np.ndarray, " T"]:
    return np.linspace(0, 1, n_frames) if n_frames > 1 else np.zeros(1)


def _place(
    spec: SceneSpec,
    rng: np.random.Generator,
    camera_path: CameraPath,
    time: Float[np.ndarray, " T"],
    static: Body,
    movers: list[Body],
) -> tuple[Path, ...] | None:
    """Paths that keep their distance at all the times, or None."""
    cam_from_world = camera_path.cam_from_world(time)
    lanes = rng.permutation(np.linspace(-1, 1, max(spec.movers, 2)))
    paths: list[Path] = []
    placed = [(static, np.tile(np.eye(4), (len(time), 1, 1)))]
    for k, body in enumerate(movers):
        for _ in range(_PLACEMENTS):
            trial = _draw(spec, rng, k, movers, paths, float(lanes[k]))
            world_from_body = trial.world_from_body(time)
            turned_deg = motion.relative_turn_deg(cam_from_world, world_from_body)
            clear = all(
                motion.smallest_gap(body, world_from_body, other, world_from_other, motion.CLEARANCE) >= motion.CLEARANCE
                for other, world_from_other in placed
            )
            if clear and turned_deg >= motion.MIN_TURN_DEG:
                paths.append(trial)
                placed.append((body, world_from_body))
                break
        else:
            return None
    return tuple(paths)


def _draw(spec: SceneSpec, rng: np.random.Generator, k: int, movers: list[Body], paths: list[Path], lane: float) -> Path:
    if k == 1 and spec.variant is Variant.MOVE_AS_ONE and isinstance(paths[0], motion.MoverPath):
        distance = (movers[0].radius + movers[1].radius) * rng.uniform(0.8, 1.2)
        return motion.draw_follower(rng, paths[0], distance)
    shape = movers[k].parts[0].shape
    if k == 0 and spec.variant is Variant.LEAVE_AND_RETURN:
        return motion.leaving(motion.draw_mover_path(rng, shape, spec.movers, _LEAVING_LANE))
    path = motion.draw_mover_path(rng, shape, spec.movers, lane)
    return motion.raised(path, _LEADER_LIFT) if k == 0 and spec.variant is Variant.MOVE_AS_ONE else path


def _score(spec: SceneSpec, cast: Cast, intrinsics: Float[np.ndarray, "3 3"], path: CameraPath) -> float:
    """How instructive a placement is: occlusions count, movers that are mostly hidden or outside make it worthless (<= 0)."""
    time = np.linspace(0, 1, _PREVIEW_FRAMES)
    factor = _PREVIEW_WIDTH / spec.width
    small = geometry.scaled_intrinsics(intrinsics, factor, factor)
    moved, cam_from_world = cast.at(time), path.cam_from_world(time)
    alone = np.stack(
        [
            Actors(cast.bodies, moved[i]).depth_alone(
                Camera(small, _PREVIEW_WIDTH, round(spec.height * factor), cam_from_world[i])
            )
            for i in range(len(time))
        ]
    )
    hit, owner = np.isfinite(alone), alone.argmin(1)
    score = 1.0
    for k in range(1, len(cast.bodies)):
        silhouette = hit[:, k].sum((1, 2))
        hidden = np.stack([(hit[:, k] & (owner == other)).sum((1, 2)) for other in range(len(cast.bodies))], 1)
        visible = hidden[:, k] / np.maximum(silhouette, 1)
        border = hit[:, k][:, :, [0, -1]].sum((1, 2)) + hit[:, k][:, [0, -1]].sum((1, 2))
        inside = ((silhouette > 0) & (border < 0.25 * np.sqrt(silhouette))).mean()
        excused = k == 1 and spec.variant in (Variant.LEAVE_AND_RETURN, Variant.TINY_OBJECT)
        if not excused and (visible.mean() < _MIN_VISIBLE or inside < 0.7):
            return inside - 1.0
        # An occlusion counts where it hides a good part of the mover, but not all of it.
        shares = np.delete(hidden, k, 1) / np.maximum(silhouette, 1)[:, None]
        score += ((shares > 0.08) & (shares < 0.75)).any(0).sum()
    return float(score)
