"""Pictures of the valid set, drawn with Pillow.

`validity.png`: one row and column per moving object; off the diagonal the network's score over two objects' scales (the
best over a few samples' other scales) with the samples as dots, on the diagonal the histogram of one object's sampled scales.
`agreement_KK.png`: for object KK the share of order tests that hold, over its scale (across) and the frames (down), the
other objects as in the most central sample: which frames say what about its scale.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from pipelines.scene.orders import OrderTests
from pipelines.scene.scaled_scene import ScaledScene
from pipelines.scene.zone import Zone

PANEL_PX = 220
GAP_PX = 46
CELLS = 44
CONTEXTS = 24
"""Samples whose other scales a score map tries."""
_RAMP = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], float)
_INK, _DOT, _LINE = (30, 30, 30), (255, 255, 255), (230, 60, 40)


def draw_maps(folder: Path, *, scene: ScaledScene, zone: Zone, tests: OrderTests, log_scale: Float[np.ndarray, "n K"]) -> None:
    """Write all pictures. The first sample is the most central one."""
    _corner(scene, zone, log_scale).save(folder / "validity.png")
    for column in range(1, len(scene.object_ids)):
        picture = _over_frames(scene, zone, tests, log_scale[0], column)
        picture.save(folder / f"agreement_{scene.object_ids[column]:02d}.png")


def colours(share: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """0 ... 1 from dark violet to yellow, interpolated between five anchors; NaN is grey."""
    at = np.nan_to_num(np.clip(share, 0, 1)) * (len(_RAMP) - 1)
    below = np.minimum(at.astype(int), len(_RAMP) - 2)
    mixed = _RAMP[below] + (at - below)[..., None] * (_RAMP[below + 1] - _RAMP[below])
    mixed[np.isnan(share)] = 200
    return mixed.round().astype(np.uint8)


def held_share(
    tests: OrderTests, log_scale: Float[np.ndarray, " K"], column: int, grid: Float[np.ndarray, " g"], frames: np.ndarray
) -> Float[np.ndarray, "frames g"]:
    """Share of the tests with the object that hold, by frame and by its log scale; NaN in frames without such tests."""
    held, total = np.zeros((len(frames), len(grid))), np.zeros((len(frames), 1))
    for in_front in (True, False):
        rows = (tests.front if in_front else tests.back) == column
        other = log_scale[(tests.back if in_front else tests.front)[rows]]
        # In front, the test holds up to a largest scale; behind, from a smallest one on.
        turn = other + tests.bound[rows] if in_front else other - tests.bound[rows]
        row = np.searchsorted(frames, tests.ray_frame[tests.ray[rows]])
        first_beyond = np.searchsorted(grid, turn, side="right" if in_front else "left")
        steps = np.zeros((len(frames), len(grid) + 1))
        np.add.at(steps, (row, first_beyond), 1.0)
        count = steps.sum(1, keepdims=True)
        reached = np.cumsum(steps, axis=1)[:, :-1]
        held += count - reached if in_front else reached
        total += count
    with np.errstate(invalid="ignore"):
        return held / total


def _corner(scene: ScaledScene, zone: Zone, log_scale: Float[np.ndarray, "n K"]) -> Image.Image:
    n = len(scene.object_ids) - 1
    side = n * (PANEL_PX + GAP_PX) + GAP_PX
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    low, high = zone.intervals.T
    margin = 0.15 * np.maximum(high - low, 0.02)
    low, high = low - margin, high + margin
    for row in range(1, n + 1):
        for column in range(1, row + 1):
            corner = (GAP_PX + (column - 1) * (PANEL_PX + GAP_PX), GAP_PX + (row - 1) * (PANEL_PX + GAP_PX))
            if row == column:
                _histogram(draw, corner, log_scale[:, column], low[column], high[column])
                _text(draw, (corner[0], corner[1] - 30), scene.names[column][:24])
            else:
                picture.paste(_panel(_score_map(scene, zone, log_scale, row, column, low, high)), corner)
                shown = [column, row]
                xy = (log_scale[:, shown] - low[shown]) / (high - low)[shown]
                for x, y in corner + np.stack([xy[:, 0], 1 - xy[:, 1]], axis=1) * PANEL_PX:
                    draw.point((float(x), float(y)), fill=_DOT)
            _text(draw, (corner[0], corner[1] + PANEL_PX + 2), f"x{np.exp(low[column]):.3g} ... x{np.exp(high[column]):.3g}")
    return picture


def _score_map(
    scene: ScaledScene,
    zone: Zone,
    log_scale: Float[np.ndarray, "n K"],
    row: int,
    column: int,
    low: Float[np.ndarray, " K"],
    high: Float[np.ndarray, " K"],
) -> Float[np.ndarray, "cells cells"]:
    """Best score over the contexts, the row object's scale growing upwards."""
    contexts = log_scale[:CONTEXTS]
    centres = (np.arange(CELLS) + 0.5) / CELLS
    across = low[column] + centres * (high[column] - low[column])
    up = low[row] + centres[::-1] * (high[row] - low[row])
    points = np.broadcast_to(contexts, (CELLS, CELLS, *contexts.shape)).copy()
    points[..., row], points[..., column] = up[:, None, None], across[None, :, None]
    flat = points.reshape(-1, contexts.shape[1])
    score = zone.contains(flat) if scene.network is None else scene.network.score(flat)
    return score.reshape(CELLS, CELLS, -1).max(-1).astype(float)


def _histogram(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], values: Float[np.ndarray, " n"], low: float, high: float
) -> None:
    counts, _ = np.histogram(values, bins=CELLS, range=(low, high))
    tall = counts / max(counts.max(), 1) * (PANEL_PX - 4)
    bar = PANEL_PX / CELLS
    for i, height in enumerate(tall):
        if height > 0:
            left, bottom = corner[0] + i * bar, corner[1] + PANEL_PX
            draw.rectangle((left, bottom - height, left + bar - 1, bottom), fill=tuple(_RAMP[2].astype(int)))
    draw.rectangle((*corner, corner[0] + PANEL_PX, corner[1] + PANEL_PX), outline=_INK)


def _over_frames(
    scene: ScaledScene, zone: Zone, tests: OrderTests, log_scale: Float[np.ndarray, " K"], column: int
) -> Image.Image:
    frames = np.unique(tests.ray_frame)
    low, high = scene.log_scale_range[column]
    grid = np.linspace(low, high, 3 * PANEL_PX)
    share = held_share(tests, log_scale, column, grid, frames)
    row_px = max(1, 360 // max(len(frames), 1))
    rows = np.repeat(colours(share), row_px, axis=0)
    picture = Image.new("RGB", (rows.shape[1] + 2 * GAP_PX, rows.shape[0] + 2 * GAP_PX), "white")
    picture.paste(Image.fromarray(rows), (GAP_PX, GAP_PX))
    draw = ImageDraw.Draw(picture)
    for end in zone.intervals[column]:
        x = GAP_PX + (end - low) / (high - low) * rows.shape[1]
        draw.line((x, GAP_PX - 6, x, GAP_PX + rows.shape[0] + 6), fill=_LINE, width=2)
    title = f"{scene.names[column]}: share of order tests that hold, over its scale (across) and frames (down)"
    _text(draw, (GAP_PX, 12), title)
    legend = f"x{np.exp(low):.3g} ... x{np.exp(high):.3g}, frames {_span(frames)}; red: interval"
    _text(draw, (GAP_PX, picture.height - 34), legend)
    return picture


def _span(frames: np.ndarray) -> str:
    return f"{frames[0]} ... {frames[-1]}" if len(frames) else "none"


def _panel(cells: Float[np.ndarray, "cells cells"]) -> Image.Image:
    return Image.fromarray(colours(cells)).resize((PANEL_PX, PANEL_PX), Image.Resampling.NEAREST)


def _text(draw: ImageDraw.ImageDraw, xy: tuple[int, int], text: str) -> None:
    draw.text(xy, text, fill=_INK, font=ImageFont.load_default(13))
