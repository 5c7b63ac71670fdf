"""Plots of an evaluation: SVG files that any browser shows, and the best sample's views beside the true ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipelines.evaluation.views import TrueView
from pipelines.reporting.charts import Axis, line, text
from pipelines.reporting.markup import Html, tag
from pipelines.scenery import ViewLike
from pipelines.spread import evenly_spread

Rows = Sequence[dict[str, Any]]
VIEW_MEASURES = {"psnr_db": "PSNR, dB", "ssim": "SSIM", "ssimae": "SSIMAE (less is better)", "miou": "mIoU", "pq": "PQ"}
SET_MEASURES = {"precision": "precision", "recall": "recall", "iou": "IoU"}
MESH_MEASURES = {"f_score": "F-score", "precision": "precision", "recall": "recall"}
_STYLE = (
    "text{font:12px sans-serif;fill:#1d2126}.label{fill:#5d6670}.title{font-weight:600}.bar{fill:#2f6690}"
    ".dot{fill:#2f6690}.best{fill:#9a5b00}.grid{stroke:#e4e6e8}.whisker{stroke:#1d2126;stroke-width:1.5}"
)
_PITCH, _NAME_PX, _BAR_PX, _VALUE_PX, _TITLE_PX = 20, 110, 190, 100, 24
_PICTURES = 4
"""Held-out views that the picture shows."""


def write(folder: Path, tables: dict[str, Any]) -> None:
    """A file for every table that has something to show: novel_views, multi_truth, candidates, valid_set, meshes (.svg)."""
    meshes = [row for row in tables.get("meshes", ()) if row.get("f_score") is not None]
    drawn = {
        "novel_views": bar_panels(tables.get("novel_views", ()), "scales", VIEW_MEASURES),
        "multi_truth": bar_panels(by_solution(tables.get("multi_truth", ())), "scales", VIEW_MEASURES),
        "valid_set": bar_panels(tables.get("valid_set", ()), "set", SET_MEASURES),
        "meshes": bar_panels([row | {"object": f"object {row['object']}"} for row in meshes], "object", MESH_MEASURES),
        "candidates": scatter(tables.get("candidates", ())),
    }
    for name, markup in drawn.items():
        if markup:
            (folder / f"{name}.svg").write_text(f"{markup}\n", encoding="utf-8")


def by_solution(rows: Rows) -> list[dict[str, Any]]:
    """The rows of the multi-truth protocol, one per solution: every measure's mean, and its deviation beside it."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = found.setdefault(row["scales"], {"scales": row["scales"]})
        entry[row["measure"]], entry[f"{row['measure']} deviation"] = row["mean"], row["deviation"]
    return list(found.values())


def bar_panels(rows: Rows, name: str, measures: dict[str, str]) -> Html:
    """A panel per measure that any row knows, a bar per row; a whisker of one deviation to each side where it is known."""
    known = {key: title for key, title in measures.items() if any(row.get(key) is not None for row in rows)}
    if not known:
        return Html("")
    height = _TITLE_PX + _PITCH * len(rows) + 12
    panels = [_panel(rows, name, key, title, i * height) for i, (key, title) in enumerate(known.items())]
    return _document(_NAME_PX + _BAR_PX + _VALUE_PX, height * len(known), *panels)


def _panel(rows: Rows, name: str, key: str, title: str, top: int) -> Html:
    longest = max(row[key] + (row.get(f"{key} deviation") or 0) for row in rows if row.get(key) is not None)
    x = Axis(0, longest or 1, _NAME_PX, _NAME_PX + _BAR_PX)
    parts = [text(_NAME_PX, top + 16, title, "title")]
    for i, row in enumerate(rows):
        y = top + _TITLE_PX + _PITCH * i
        parts.append(text(_NAME_PX - 6, y + 13, str(row[name]), anchor="end"))
        value, deviation = row.get(key), row.get(f"{key} deviation")
        if value is None:
            parts.append(text(_NAME_PX + 4, y + 13, "not measured"))
            continue
        parts.append(tag("rect", x=_NAME_PX, y=y, width=max(x.px(value) - _NAME_PX, 0), height=_PITCH - 5, class_="bar"))
        shown = f"{value:.3g}" if deviation is None else f"{value:.3g} ± {deviation:.2g}"
        if deviation is not None:
            middle = y + (_PITCH - 5) / 2
            parts.append(line(x.px(max(value - deviation, 0)), middle, x.px(value + deviation), middle, "whisker"))
        parts.append(text(_NAME_PX + _BAR_PX + 6, y + 13, shown, "value"))
    return tag("g", *parts)


def scatter(rows: Rows) -> Html:
    """Distance of each rendered sample to the true scales, and how good its novel views are; the best one stands out."""
    known = [row for row in rows if row["psnr_db"] is not None and row["log_distance"] is not None]
    if not known:
        return Html("")
    width, height, left, bottom = 400, 240, 56, 196
    distance, quality = ([row[key] for row in known] for key in ("log_distance", "psnr_db"))
    x = Axis(0, max(distance) or 1, left, width - 16)
    y = Axis(min(quality), max(max(quality), min(quality) + 0.1), bottom, 20)
    dots = [
        tag("circle", cx=x.px(d), cy=y.px(q), r=4, class_="best" if row["best"] else "dot")
        for row, d, q in zip(known, distance, quality, strict=True)
    ]
    marks = [part for v in (y.low, y.high) for part in (line(left, y.px(v), width - 16, y.px(v), "grid"),
             text(left - 6, y.px(v) + 4, f"{v:.2f}", anchor="end"))]  # fmt: skip
    ends = [text(left, bottom + 18, "0"), text(width - 16, bottom + 18, f"{x.high:.2g}", anchor="end")]
    title = text(left, 12, "PSNR of novel views, dB", "title")
    caption = text((left + width) / 2, height - 8, "distance to the true log scales", anchor="middle")
    return _document(width, height, title, *marks, *ends, *dots, caption)


def _document(width: int, height: int, *children: str) -> Html:
    ground = tag("rect", width=width, height=height, fill="#fff")
    return tag(
        "svg",
        tag("style", Html(_STYLE)),
        ground,
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )


def write_pictures(path: Path, compared: Sequence[tuple[TrueView, ViewLike]]) -> None:
    """Some held-out views, one a row: truth, best sample, absolute difference, true depth and its own (nearer is brighter)."""
    from PIL import Image

    chosen = evenly_spread(np.arange(len(compared)), _PICTURES)
    Image.fromarray(np.concatenate([_row(*compared[i]) for i in chosen])).save(path)


def _row(true: TrueView, rendered: ViewLike) -> UInt8[np.ndarray, "h w 3"]:
    images = [true.rgb, np.nan_to_num(rendered.rgb), np.abs(np.nan_to_num(rendered.rgb) - true.rgb)]
    depths = [rendered.depth] if true.depth is None else [true.depth, rendered.depth]
    images += [np.repeat(_nearness(depth)[..., None], 3, -1) for depth in depths]
    return np.round(255 * np.clip(np.concatenate(images, 1), 0, 1)).astype(np.uint8)


def _nearness(depth: np.ndarray) -> np.ndarray:
    """Nearest known depth over depth, per image, so that the unit does not matter; 0 where nothing is hit."""
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        return np.zeros(depth.shape)
    return np.where(known, np.quantile(depth[known], 0.01) / np.where(known, depth, 1), 0)
