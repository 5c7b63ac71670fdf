"""What training achieved, in figures for people: how well filmed views are reproduced, and what is known of the scales."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.artifacts import UNKNOWN, Labels, Video
from pipelines.evaluation.images import psnr_db
from pipelines.geometry import at_pixel_centres
from pipelines.scene.pixels import working_size
from pipelines.scene.scene import Scene
from pipelines.spread import evenly_spread


def summarise(scene: Scene, video: Video, labels: Labels, *, max_side_px: int, n_views: int = 4) -> dict[str, Any]:
    """PSNR of some filmed views at the working size of training and at full size, and the interval of each object's scale."""
    frames = evenly_spread(np.flatnonzero(scene.registered[0]), n_views).tolist()
    working = working_size(scene.width, scene.height, max_side_px)
    return {
        "objects": len(scene.object_ids) - 1,
        "train_view_psnr_db": train_view_psnr_db(scene, video, labels, frames, working),
        "train_view_psnr_full_size_db": train_view_psnr_db(scene, video, labels, frames, (scene.width, scene.height)),
        "working_size": f"{working[0]}x{working[1]}",
        "psnr_frames": ", ".join(map(str, frames)),
        "scales": scale_rows(scene),
    }


def train_view_psnr_db(scene: Scene, video: Video, labels: Labels, frames: Sequence[int], size: tuple[int, int]) -> float:
    """Mean over filmed views, on the pixels whose object is known and reconstructed. Any valid scales give the same image."""
    import cv2

    scale = np.exp(valid_log_scale(scene))
    known = np.isin(np.arange(256), scene.object_ids) & (np.arange(256) != UNKNOWN)
    found = []
    for t in frames:
        true = cv2.resize(video.frame(t), size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        seen = at_pixel_centres(labels.maps[t], *size)
        view = scene.render(t=t, scale=scale, width=size[0], height=size[1])
        found.append(psnr_db(view.rgb, true, known[seen]))
    return float(np.mean(found))


def valid_log_scale(scene: Scene) -> np.ndarray:
    """One combination from the zone; the middle of the ranges where there is no zone."""
    if scene.zone is None or scene.zone.is_empty:
        return scene.log_scale_range.mean(1)
    return scene.zone.sample(1, np.random.default_rng(0))[0]


def scale_rows(scene: Scene) -> list[dict[str, Any]]:
    """Each object's smallest and largest scale, relative to the background's unit."""
    if scene.zone is None or scene.zone.is_empty:
        return []
    low, high = np.exp(scene.zone.intervals).T
    columns = range(1, len(scene.object_ids))
    return [
        {"object": scene.object_ids[k], "name": scene.names[k], "smallest": float(low[k]), "largest": float(high[k])}
        for k in columns
    ]
