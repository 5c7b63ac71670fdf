"""Pictures of an unfinished scene, to see early when something goes wrong."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pipelines.geometry import rigid
from pipelines.scene.scene import Scene
from pipelines.scenery import View

WIDTH_PX = 192
MOVE_SHARE = 0.05
"""The new camera stands beside the filming one by this share of the background's size."""


def write(scene: Scene, folder: Path, step: int) -> None:
    """`step_{step}.png`: colour and depth of a filmed view (left) and of a camera beside it (right), middle frame."""
    folder.mkdir(parents=True, exist_ok=True)
    posed = np.nonzero(scene.registered[0])[0]
    t = int(posed[len(posed) // 2])
    height = round(scene.height * WIDTH_PX / scene.width)
    scale = preview_scale(scene)
    step_aside = rigid(np.eye(3), np.array([-MOVE_SHARE * scene.fields[0].box.size, 0.0, 0.0]))
    beside = step_aside @ scene.cam_from_obj[0, t]
    filmed = scene.render(t=t, scale=scale, width=WIDTH_PX, height=height)
    novel = scene.render(t=t, scale=scale, view_from_world=beside, width=WIDTH_PX, height=height)
    picture = np.hstack([_column(filmed), _column(novel)])
    cv2.imwrite(str(folder / f"step_{step:06d}.png"), picture[..., ::-1])


def preview_scale(scene: Scene) -> Float[np.ndarray, " K"]:
    """A scale combination to look at: the middle of the zone, before it is known the middle of the ranges."""
    ranges = scene.log_scale_range if scene.zone is None or scene.zone.is_empty else scene.zone.intervals
    return np.exp(ranges.mean(1))


def _column(view: View) -> UInt8[np.ndarray, "h w 3"]:
    """Colour above depth (near is bright)."""
    colour = (view.rgb * 255).round().astype(np.uint8)
    inverse = np.where(view.depth > 0, 1 / np.maximum(view.depth, 1e-6), 0)
    bright = (255 * np.clip(inverse / max(float(np.quantile(inverse, 0.99)), 1e-9), 0, 1)).astype(np.uint8)
    return np.vstack([colour, np.repeat(bright[..., None], 3, 2)])
