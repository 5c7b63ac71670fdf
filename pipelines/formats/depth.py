"""Depth images: 16-bit PNG for tools that read images, float32 .npy for exact values. 0 (PNG) and inf (npy): nothing there."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from pipelines.artifacts import write_json


def encode_depth(depth: Float[np.ndarray, "h w"], step: float) -> UInt16[np.ndarray, "h w"]:
    """Whole steps of depth, from 1; 0 where there is nothing or where 16 bits do not reach."""
    steps = np.round(np.where(np.isfinite(depth) & (depth > 0), depth, 0.0) / step)
    return np.where(steps <= 65535, steps, 0).astype(np.uint16)


def write_depth(folder: Path, depths: list[tuple[int, Float[np.ndarray, "h w"]]]) -> list[Path]:
    """Per frame `%06d.png` and `%06d.npy`, and `depth.json` with the length of one PNG step."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    farthest = max((float(np.max(depth[np.isfinite(depth)], initial=0.0)) for _, depth in depths), default=0.0)
    step = farthest / 65535 if farthest > 0 else 1.0
    paths = []
    for t, depth in depths:
        path = folder / f"{t:06d}.png"
        _, encoded = cv2.imencode(".png", encode_depth(depth, step))
        path.write_bytes(encoded.tobytes())
        np.save(path.with_suffix(".npy"), depth.astype(np.float32))
        paths.append(path)
    write_json(folder / "depth.json", {"length_per_step": step, "kind": "z-depth", "nothing": 0})
    return paths


def colourised(depth: Float[np.ndarray, "h w"], nearest: float, farthest: float) -> UInt8[np.ndarray, "h w 3"]:
    """Depth as colours (turbo, near is red), even in inverse depth; black where there is nothing."""
    import cv2

    with np.errstate(divide="ignore"):
        closeness = (1 / depth - 1 / farthest) / max(1 / nearest - 1 / farthest, 1e-12)
    levels = np.round(np.clip(np.nan_to_num(closeness, posinf=1.0, neginf=0.0), 0, 1) * 255).astype(np.uint8)
    rgb = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where((np.isfinite(depth) & (depth > 0))[..., None], rgb, 0).astype(np.uint8)
