"""Where everything stands at a frame under a scale combination, as the viewer's scene tree wants it.

World: y up (`pipelines.formats.placement`). Quaternions here are (w, x, y, z). The filming camera has OpenCV axes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from pipelines.artifacts import BACKGROUND
from pipelines.formats.placement import GL_FROM_CV_CAMERA, Placement, place
from pipelines.scenery import SceneLike


@dataclass(frozen=True)
class Pose:
    """A node takes points X to `scale * rotate(wxyz, X) + position`."""

    position: Float[np.ndarray, "3"]
    wxyz: Float[np.ndarray, "4"]
    scale: float
    visible: bool


@dataclass(frozen=True)
class StageSet:
    """The scene's motion at scale 1, from which every combination follows at once."""

    scene: SceneLike

    @cached_property
    def placement(self) -> Placement:
        return place(self.scene, np.ones(len(self.scene.names)))

    def pose(self, column: int, t: int, scale: float) -> Pose:
        """An object grows about the centre of the filming camera: `C + s (p - C)` (DESIGN section 2)."""
        centre = self.placement.camera_translation[t]
        position = centre + scale * (self.placement.translation[column, t] - centre)
        wxyz = np.roll(self.placement.quaternion[column, t], 1)
        # The background stays while the camera is lost: it is the world.
        return Pose(position, wxyz, scale, column == BACKGROUND or bool(self.placement.visible[column, t]))

    def camera(self, t: int) -> Pose:
        """The filming camera, x right, y down, z forward."""
        from scipy.spatial.transform import Rotation

        world_from_gl = Rotation.from_quat(self.placement.camera_quaternion[t]).as_matrix()
        quaternion = Rotation.from_matrix(world_from_gl @ GL_FROM_CV_CAMERA[:3, :3]).as_quat()
        return Pose(self.placement.camera_translation[t], np.roll(quaternion, 1), 1.0, bool(self.placement.visible[0, t]))

    def reach(self, t: int, scale: Float[np.ndarray, " K"]) -> float:
        """Distance of the moving objects from the filming camera (median); what everything drawn is sized by."""
        centre = self.placement.camera_translation[t]
        movers = [k for k in range(1, len(scale)) if self.placement.visible[k, t]]
        distances = [float(np.linalg.norm(self.pose(k, t, float(scale[k])).position - centre)) for k in movers]
        if not distances:
            return float(np.linalg.norm(np.ptp(self.scene.boxes[0], axis=0))) / 2
        return float(np.median(distances))
