"""Rendered pictures of samples for the report, kept by content so that a second report costs nothing."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.artifacts import Samples
from pipelines.geometry import rigid, scaled_intrinsics
from pipelines.meshing.surfaces import scene_fingerprint
from pipelines.render import RenderConfig, seen_background
from pipelines.reporting.pictures import rendered_bytes
from pipelines.scenery import SceneLike
from pipelines.stage import StageContext

PICTURES_VERSION = 2


@dataclass(frozen=True)
class SamplePictures:
    """One frame as filmed, and some samples from another place. `index` are rows of the samples."""

    frame: int
    filmed: UInt8[np.ndarray, "h w 3"]
    novel: UInt8[np.ndarray, "n h w 3"]
    index: tuple[int, ...]


def middle_frame(scene: SceneLike) -> int:
    """The middle one of the frames with a camera pose in which most objects are there."""
    there = scene.registered[0] * scene.registered.sum(0)
    best = np.flatnonzero(there == there.max())
    return int(best[len(best) // 2])


def aside_view(scene: SceneLike, t: int, scale: Float[np.ndarray, " K"], turn_deg: float) -> Float[np.ndarray, "4 4"]:
    """`view_from_world` of a camera that swung sideways about the moving objects, keeping them in the middle."""
    there = scene.registered[1:, t]
    depths = (scale[1:] * scene.cam_from_obj[1:, t, 2, 3])[there]
    if len(depths) == 0 or np.median(depths) <= 0:
        depths = np.array([np.linalg.norm(np.ptp(scene.boxes[0], axis=0)) / 2])
    pivot = np.array([0.0, 0.0, float(np.median(depths))])
    angle = np.radians(turn_deg)
    c, s = np.cos(angle), np.sin(angle)
    view_from_cam = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return rigid(view_from_cam, pivot - view_from_cam @ pivot) @ scene.cam_from_obj[0, t]


def sample_pictures(
    scene: SceneLike, samples: Samples, *, n: int, width_px: int, turn_deg: float, context: StageContext
) -> SamplePictures:
    """Render the first n samples (a diverse subset) from one camera beside the filming one, marked as `osn render` does."""
    t, height = middle_frame(scene), max(1, round(scene.height * width_px / scene.width))
    index = tuple(range(min(n, len(samples.score))))
    view = aside_view(scene, t, samples.scale.mean(0), turn_deg)
    intrinsics = scaled_intrinsics(scene.intrinsics, width_px / scene.width, height / scene.height)

    def make(folder: Path) -> None:
        background = seen_background(RenderConfig(), scene)
        with context.progress.task("pictures", len(index) + 1) as advance:
            pictures = [rendered_bytes(scene.render(t=t, scale=samples.scale[0], width=width_px, height=height).rgb)]
            advance(1)
            for i in index:
                seen = scene.render(
                    t=t,
                    scale=samples.scale[i],
                    view_from_world=view,
                    intrinsics=intrinsics,
                    width=width_px,
                    height=height,
                )
                pictures.append(rendered_bytes(background.marked(seen, view_from_world=view, intrinsics=intrinsics)))
                advance(1)
        np.savez(folder / "pictures.npz", pictures=np.stack(pictures))

    prints = [scene_fingerprint(scene, column) for column in range(len(scene.names))]
    key = [PICTURES_VERSION, prints, t, width_px, turn_deg, samples.log_scale[list(index)].tolist()]
    folder = context.items.get("pictures", key, make)
    with np.load(folder / "pictures.npz") as stored:
        pictures = stored["pictures"]
    return SamplePictures(t, pictures[0], pictures[1:], index)
