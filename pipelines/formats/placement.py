"""Where the objects and the filming camera of one sampled scene are, in the axes that other programs expect.

The only place where axes and units are converted for glTF and USD:

    exported world  right-handed, y up (the mean up direction of the filming cameras), -z along their mean viewing
                    direction; origin at the background's origin; lengths in world units times `unit`
    camera          OpenGL axes, as glTF and USD demand: x right, y up, looking along -z
    quaternions     (x, y, z, w), unit norm; neighbours in time lie in the same half-space, so that interpolation
                    takes the shorter way

Objects keep their own frames and units: vertices are exported as they are, and the object's node scales by `s_k unit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipelines.geometry import invert, rigid, world_from_obj
from pipelines.scenery import SceneLike

GL_FROM_CV_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Placement:
    """One sampled scene in time: K objects, T frames. A node takes object points X to `scale * rotate(q, X) + translation`."""

    times_s: Float[np.ndarray, " T"]
    scale: Float[np.ndarray, " K"]
    translation: Float[np.ndarray, "K T 3"]
    quaternion: Float[np.ndarray, "K T 4"]
    visible: Bool[np.ndarray, "K T"]
    """False where the object or the camera did not register: its pose there is that of the nearest registered frame."""
    camera_translation: Float[np.ndarray, "T 3"]
    """In frames where the camera did not register as in `in_between`; so are its turns."""
    camera_quaternion: Float[np.ndarray, "T 4"]

    def rotation(self, column: int, t: int) -> Float[np.ndarray, "3 3"]:
        """Rotation from an object's frame to the exported world."""
        from scipy.spatial.transform import Rotation

        return Rotation.from_quat(self.quaternion[column, t]).as_matrix()

    def in_camera(self, points: Float[np.ndarray, "N 3"], column: int, t: int) -> Float[np.ndarray, "N 3"]:
        """Points of an object in the camera's (OpenGL) axes, as a program that reads the file computes them."""
        from scipy.spatial.transform import Rotation

        in_world = self.scale[column] * (points @ self.rotation(column, t).T) + self.translation[column, t]
        return Rotation.from_quat(self.camera_quaternion[t]).inv().apply(in_world - self.camera_translation[t])

    def depth_range(self, vertices: Sequence[Float[np.ndarray, "_ 3"]]) -> tuple[float, float]:
        """Nearest and farthest content before the camera at any time, from a sparse look at the vertices."""
        nearest, farthest = np.inf, 0.0
        for column, points in enumerate(vertices):
            sparse = points[:: max(len(points) // 500, 1)].astype(float)
            for t in np.flatnonzero(self.visible[column]):
                z = -self.in_camera(sparse, column, int(t))[:, 2]
                z = z[z > 0]
                nearest, farthest = min(nearest, float(z.min(initial=np.inf))), max(farthest, float(z.max(initial=0.0)))
        return (nearest, farthest) if 0 < nearest < farthest else (0.1, 100.0)


def upright_from_world(cam_from_world: Float[np.ndarray, "T 4 4"]) -> Float[np.ndarray, "3 3"]:
    """Rotation from the background's frame to the exported world, from where up and ahead were while filming."""
    world_from_cam = invert(cam_from_world)[:, :3, :3]
    up = -world_from_cam[:, :, 1].sum(0)
    ahead = world_from_cam[:, :, 2].sum(0)
    if np.linalg.norm(up) < 1e-6 * len(world_from_cam):
        up = -world_from_cam[0, :, 1]
    up = up / np.linalg.norm(up)
    ahead = ahead - (ahead @ up) * up
    if np.linalg.norm(ahead) < 1e-6 * len(world_from_cam):
        ahead = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    ahead = ahead / np.linalg.norm(ahead)
    return np.stack([np.cross(ahead, up), up, -ahead])


def nearest_registered(registered: Bool[np.ndarray, " T"]) -> np.ndarray:
    """For each frame the index of the nearest registered one (the frame itself when none is)."""
    known = np.flatnonzero(registered)
    frames = np.arange(len(registered))
    return frames if len(known) == 0 else known[np.abs(frames[:, None] - known).argmin(1)]


def in_between(world_from_cam: Float[np.ndarray, "T 4 4"], registered: Bool[np.ndarray, " T"]) -> Float[np.ndarray, "T 4 4"]:
    """The same, with unregistered frames filled in: inside a gap the camera turns (slerp) and moves evenly, so that it does
    not jump there; before the first registered frame and after the last it stands still."""
    from scipy.spatial.transform import Rotation, Slerp

    known = np.flatnonzero(registered)
    if len(known) < 2:
        return world_from_cam[nearest_registered(registered)]
    frames = np.clip(np.arange(len(registered)), known[0], known[-1])
    turned = Slerp(known, Rotation.from_matrix(world_from_cam[known, :3, :3]))(frames).as_matrix()
    moved = np.stack([np.interp(frames, known, along) for along in world_from_cam[known, :3, 3].T], -1)
    return np.where(registered[:, None, None], world_from_cam, rigid(turned, moved))


def continuous_quaternions(rotation: Float[np.ndarray, "T 3 3"]) -> Float[np.ndarray, "T 4"]:
    """Unit quaternions (x, y, z, w) without sign jumps: each within 90 degrees (in 4-space) of the one before."""
    from scipy.spatial.transform import Rotation

    quaternions = Rotation.from_matrix(rotation).as_quat()
    flips = np.sign((quaternions[1:] * quaternions[:-1]).sum(-1))
    flips[flips == 0] = 1.0
    signs = np.concatenate([[1.0], np.cumprod(flips)])
    return quaternions * signs[:, None]


def place(scene: SceneLike, scale: Float[np.ndarray, " K"], *, unit: float = 1.0) -> Placement:
    """The scene under a scale combination; `unit` is the length of one world unit in the exported file (metres)."""
    world_from_cam = in_between(invert(scene.cam_from_obj[0]), scene.registered[0])
    cam_from_world = invert(world_from_cam)
    upright = upright_from_world(cam_from_world)
    visible = scene.registered & scene.registered[:1]
    translation, quaternion = [], []
    for cam_from_obj, seen, s in zip(scene.cam_from_obj, visible, scale, strict=True):
        held = nearest_registered(seen)
        placed = world_from_obj(cam_from_world[held], cam_from_obj[held], float(s))
        translation.append(placed[:, :3, 3] @ upright.T * unit)
        quaternion.append(continuous_quaternions(upright @ placed[:, :3, :3] / s))
    camera = world_from_cam @ GL_FROM_CV_CAMERA
    return Placement(
        times_s=np.arange(scene.n_frames) / scene.fps,
        scale=np.asarray(scale, float) * unit,
        translation=np.stack(translation),
        quaternion=np.stack(quaternion),
        visible=visible,
        camera_translation=camera[:, :3, 3] @ upright.T * unit,
        camera_quaternion=continuous_quaternions(upright @ camera[:, :3, :3]),
    )
