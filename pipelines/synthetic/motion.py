"""How the camera and the movers move.

Times run from 0 to 1 over the clip. World axes as in `surroundings`. Movers turn by at least
`MIN_TURN_DEG` relative to the camera, else a monocular reconstruction of them would be ill-posed.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from pipelines import geometry
from pipelines.synthetic.bodies import Body
from pipelines.synthetic.shapes import Shape
from pipelines.synthetic.spec import Variant

MIN_TURN_DEG = 35.0
CLEARANCE = 0.03
"""Smallest gap between any two bodies, in length units."""
_CHECKED_POINTS = 400
_OUTSIDE = 2.7
"""Distance from the middle of the stage at which the camera does not see a mover any more, but the walls are not reached."""


def look_at(eye: Float[np.ndarray, "*n 3"], target: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 4 4"]:
    """cam_from_world of a camera at `eye` that looks at `target`, upright in a world whose z is up."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    rotation = np.stack([right, np.cross(forward, right), forward], -2)
    return geometry.rigid(rotation, -(rotation @ eye[..., None])[..., 0])


@dataclass(frozen=True)
class CameraPath:
    """An arc around the stage. Held-out views stand `held_out_deg` further along it and a little higher."""

    radius: float
    height: float
    sweep_deg: float
    start_sign: float
    sway: float
    variant: Variant
    held_out_deg: float = 9.0

    @classmethod
    def draw(cls, rng: np.random.Generator, variant: Variant) -> "CameraPath":
        return cls(
            radius=rng.uniform(3.7, 4.1),
            height=rng.uniform(1.15, 1.5),
            sweep_deg=rng.uniform(30, 38),
            start_sign=float(rng.choice([-1, 1])),
            sway=rng.uniform(0.1, 0.2),
            variant=variant,
        )

    def cam_from_world(self, time: Float[np.ndarray, " T"], held_out: bool = False) -> Float[np.ndarray, "T 4 4"]:
        moving = np.zeros_like(time) if self.variant in (Variant.STATIC_CAMERA, Variant.ROTATION_ONLY) else time
        angle = np.radians(self.start_sign * self.sweep_deg * (moving - 0.5))
        height = self.height + self.sway * np.sin(2 * np.pi * moving)
        radius = np.full_like(time, self.radius)
        if self.variant is Variant.CUT:
            after = time >= 0.5
            angle = np.where(after, angle + np.radians(self.start_sign * 35), angle)
            height, radius = np.where(after, height + 0.5, height), np.where(after, radius - 0.3, radius)
        if held_out:
            # Towards the middle of the arc, where the film saw the scene at other times.
            angle = angle - np.radians(self.held_out_deg) * np.sign(np.where(angle == 0, 1.0, angle))
            height = height + 0.15
        eye = np.stack([radius * np.sin(angle), -radius * np.cos(angle), height], -1)
        target = np.broadcast_to([0, 0.1, 0.55], eye.shape)
        if self.variant is Variant.ROTATION_ONLY:
            target = target + np.stack([1.2 * (time - 0.5), 0 * time, 0.25 * np.sin(2 * np.pi * time)], -1)
        return look_at(eye, target)


@dataclass(frozen=True)
class MoverPath:
    """A smooth path with a bow, and a steady turn about a tilted, slowly nodding axis."""

    start: Float[np.ndarray, "3"]
    end: Float[np.ndarray, "3"]
    bow: Float[np.ndarray, "3"]
    first_attitude: Float[np.ndarray, "3"]
    turn: Float[np.ndarray, "3"]
    """Rotation vector over the whole clip, radians."""
    away: Float[np.ndarray, "3"]
    """Added around the middle of the clip only: how far it goes when it leaves the picture."""

    def world_from_body(self, time: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T 4 4"]:
        u = time[:, None]
        ease = 0.7 * u + 0.3 * (3 * u**2 - 2 * u**3)
        gone = np.clip(1.6 * np.sin(np.pi * u) ** 2 - 0.3, 0, 1)
        position = self.start + (self.end - self.start) * ease + self.bow * np.sin(np.pi * u)
        position = position + self.away * (3 * gone**2 - 2 * gone**3)
        rotation = Rotation.from_rotvec(u * self.turn) * Rotation.from_rotvec(self.first_attitude)
        return geometry.rigid(rotation.as_matrix(), position)


@dataclass(frozen=True)
class Follower:
    """The path of a body that is rigidly tied to another one."""

    leader: MoverPath
    leader_from_body: Float[np.ndarray, "4 4"]

    def world_from_body(self, time: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T 4 4"]:
        return self.leader.world_from_body(time) @ self.leader_from_body


Path = MoverPath | Follower


def draw_follower(rng: np.random.Generator, leader: MoverPath, distance: float) -> Follower:
    """Tied to the leader at the given distance between centres, in a random attitude and direction."""
    azimuth = rng.uniform(0, 2 * np.pi)
    level = np.array([np.cos(azimuth), np.sin(azimuth), rng.uniform(0, 0.4)])
    # Beside the leader halfway through the clip, so that neither is driven into the floor.
    halfway = leader.world_from_body(np.array([0.5]))[0, :3, :3]
    rotation = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    return Follower(leader, geometry.rigid(rotation, halfway.T @ level * distance / np.linalg.norm(level)))


def draw_mover_path(rng: np.random.Generator, shape: Shape, n_movers: int, lane: float) -> MoverPath:
    """A path across the stage in the given lane (-1 near ... 1 far), standing on the floor or hovering."""
    side = rng.choice([-1.0, 1.0])
    reach = rng.uniform(0.35, 1.15)
    y = 0.15 + lane * (1.15 if n_movers < 5 else 1.35)
    turn_deg = rng.choice([-1, 1]) * rng.uniform(55, 110)
    axis = np.array([rng.uniform(-0.35, 0.35), rng.uniform(-0.35, 0.35), 1.0])
    turn = np.radians(turn_deg) * axis / np.linalg.norm(axis)
    attitude = Rotation.from_euler("zyx", [rng.uniform(-180, 180), rng.uniform(-15, 15), rng.uniform(-15, 15)], degrees=True)
    path = MoverPath(
        start=np.array([side * reach, y + rng.uniform(-0.2, 0.2), 0]),
        end=np.array([-side * rng.uniform(-0.2, 1.0), y + rng.uniform(-0.2, 0.2), 0]),
        bow=np.array([0, rng.uniform(-0.2, 0.2), rng.uniform(0, 0.15)]),
        first_attitude=attitude.as_rotvec(),
        turn=turn,
        away=np.zeros(3),
    )
    standing = rng.uniform() < 0.6
    return _lifted(path, shape, rng.uniform(0.0, 0.1) if standing else rng.uniform(0.15, 0.5 + 0.05 * n_movers))


def _lifted(path: MoverPath, shape: Shape, gap: float) -> MoverPath:
    """The path raised so that the lowest point over the clip is `gap` above the floor."""
    points = np.asarray(shape.mesh.vertices)[:: max(1, len(shape.mesh.vertices) // _CHECKED_POINTS)]
    moved = path.world_from_body(np.linspace(0, 1, 16))
    lowest = geometry.transform(moved, np.broadcast_to(points, (16, *points.shape)))[..., 2].min()
    return raised(path, gap + CLEARANCE - lowest)


def raised(path: MoverPath, lift: float) -> MoverPath:
    """The same path, higher."""
    up = np.array([0, 0, lift])
    return replace(path, start=path.start + up, end=path.end + up)


def leaving(path: MoverPath) -> MoverPath:
    """The path with an excursion to outside the picture halfway through the clip."""
    x = path.world_from_body(np.array([0.5]))[0, 0, 3]
    return replace(path, away=np.array([np.sign(x or 1.0) * _OUTSIDE - x, 0, 0]))


def relative_turn_deg(cam_from_world: Float[np.ndarray, "T 4 4"], world_from_body: Float[np.ndarray, "T 4 4"]) -> float:
    """Largest angle between the attitudes of a body relative to the camera at any two times (against the first and last)."""
    rotation = (cam_from_world @ world_from_body)[:, :3, :3]
    angles = [geometry.rotation_angle_deg(rotation @ rotation[i].T).max() for i in (0, -1)]
    return float(max(angles))


def smallest_gap(
    body_a: Body,
    world_from_a: Float[np.ndarray, "T 4 4"],
    body_b: Body,
    world_from_b: Float[np.ndarray, "T 4 4"],
    margin: float,
) -> float:
    """Lower bound of the distance between two bodies over the clip; exact enough only below `margin`.

    Surface points of each are put into the other's distance function. Times with bounding spheres far apart are skipped.
    """
    smallest = np.inf
    for first, world_from_first, second, world_from_second in (
        (body_a, world_from_a, body_b, world_from_b),
        (body_b, world_from_b, body_a, world_from_a),
    ):
        points = first.vertices[:: max(1, len(first.vertices) // _CHECKED_POINTS)]
        second_from_first = geometry.invert(world_from_second) @ world_from_first
        centres = geometry.transform(second_from_first, np.broadcast_to(first.centre, (len(second_from_first), 1, 3)))[:, 0]
        apart = np.linalg.norm(centres - second.centre, axis=1) - first.radius - second.radius
        smallest = min(smallest, max(margin, float(apart.min())))
        near = second_from_first[apart < margin]
        if len(near):
            moved = geometry.transform(near, np.broadcast_to(points, (len(near), *points.shape)))
            smallest = min(smallest, float(second.distance(moved.reshape(-1, 3)).min()))
    return smallest
