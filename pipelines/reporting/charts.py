"""Charts as inline SVG: curves, intervals of scales, validity maps. Colours come from the page's style sheet.

All charts measure in CSS pixels. Scales are drawn on logarithmic axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.reporting.markup import Html, join, tag
from pipelines.reporting.pictures import png_uri

Number = int | float


@dataclass(frozen=True)
class Axis:
    """From values (already logarithms where the axis is logarithmic) to pixels."""

    low: Number
    high: Number
    start_px: Number
    end_px: Number

    def px(self, value: Number) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start_px + share * (self.end_px - self.start_px), 2)


def nice_scales(low: Number, high: Number) -> list[float]:
    """Round scales within [exp(low), exp(high)], the coarsest steps that give four; else just the ends."""
    decades = range(int(np.floor(low / np.log(10))), int(np.ceil(high / np.log(10))) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(1 + 0.1 * i for i in range(90))):
        found = [m * 10.0**d for d in decades for m in steps if low - 1e-9 <= np.log(m * 10.0**d) <= high + 1e-9]
        if len(found) >= 4:
            return found
    return [float(np.exp(low)), float(np.exp(high))]


def text(x: Number, y: Number, content: str, class_: str = "label", anchor: str = "start") -> Html:
    return tag("text", content, x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: Number, y1: Number, x2: Number, y2: Number, class_: str) -> Html:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def svg(width: int, height: int, *children: str, label: str) -> Html:
    return tag("svg", *children, viewBox=f"0 0 {width} {height}", width=width, height=height, role="img", aria_label=label)


def curve_chart(title: str, steps: Sequence[Number], values: Sequence[Number], marks: Sequence[Number] = ()) -> Html:
    """One curve over training steps on a logarithmic axis; `marks` are steps at which something happened."""
    width, height = 300, 150
    known = [(s, v) for s, v in zip(steps, values, strict=True) if v > 0 and np.isfinite(v)]
    if not known:
        return Html("")
    logs = np.log10([v for _, v in known])
    low, high = float(logs.min()), float(max(logs.max(), logs.min() + 0.1))
    x = Axis(0, max(steps), 48, width - 8)
    y = Axis(low, high, height - 26, 26)
    path = "M" + " L".join(f"{x.px(s)} {y.px(np.log10(v))}" for s, v in known)
    grid = [
        part
        for level in (low, (low + high) / 2, high)
        for part in (
            line(48, y.px(level), width - 8, y.px(level), "grid"),
            text(42, y.px(level) + 4, f"{10**level:.2g}", anchor="end"),
        )
    ]
    rounds = [line(x.px(step), 26, x.px(step), height - 26, "mark") for step in marks]
    ends = [text(48, height - 8, "0"), text(width - 8, height - 8, f"{max(steps):,.0f} steps", anchor="end")]
    drawn = tag("path", d=path, class_="curve")
    return svg(width, height, text(48, 14, title, "title"), *grid, *rounds, *ends, drawn, label=f"{title} over training steps")


@dataclass(frozen=True)
class IntervalRow:
    """One object's scales. All values are log scales."""

    name: str
    swatch: str
    low: float
    high: float
    range_low: float
    range_high: float
    low_assumed: bool
    high_assumed: bool
    samples: Float[np.ndarray, " n"]


HATCH = Html(
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" class="hatch-ground"/><line x1="0" y1="0" x2="0" y2="6" class="hatch-line"/></pattern></defs>'
)


def interval_chart(rows: Sequence[IntervalRow]) -> Html:
    """A bar per object from its smallest to its largest valid scale, samples as ticks below, assumed ends hatched."""
    width, left, pitch = 860, 150, 46
    height = pitch * len(rows) + 44
    low, high = min(row.range_low for row in rows), max(row.range_high for row in rows)
    x = Axis(low, high, left, width - 14)
    ticks = [
        part
        for scale in nice_scales(low, high)
        for part in (
            line(x.px(np.log(scale)), 6, x.px(np.log(scale)), height - 34, "grid"),
            text(x.px(np.log(scale)), height - 18, f"{scale:.3g}", anchor="middle"),
        )
    ]
    caption = text(left, height - 2, "scale, in units of the object's own reconstruction (logarithmic axis)", "quiet")
    bars = [_interval_bar(row, x, 8 + pitch * i) for i, row in enumerate(rows)]
    return svg(width, height, HATCH, *ticks, *bars, caption, label="Interval of valid scales of each object")


def _interval_bar(row: IntervalRow, x: Axis, top: Number) -> Html:
    a, b = x.px(row.low), x.px(row.high)
    end = min((b - a) / 2, 28.0)
    whole = tag(
        "rect", x=x.px(row.range_low), y=top + 9, width=x.px(row.range_high) - x.px(row.range_low), height=6, class_="range"
    )
    bar = tag("rect", x=a, y=top, width=max(b - a, 1.5), height=22, rx=2, class_="bar")
    hatched = [
        tag("rect", x=start, y=top, width=end, height=22, fill="url(#hatch)", class_="assumed")
        for start, assumed in ((a, row.low_assumed), (b - end, row.high_assumed))
        if assumed
    ]
    rug = "".join(f"M{x.px(v)} {top + 25}v7" for v in row.samples)
    swatch = tag("rect", x=0, y=top + 5, width=12, height=12, rx=2, fill=row.swatch, class_="swatch")
    return join([whole, bar, *hatched, tag("path", d=rug, class_="rug"), swatch, text(20, top + 16, row.name, "name")])


def validity_chart(
    picture: UInt8[np.ndarray, "h w 3"],
    ranges: tuple[tuple[float, float], tuple[float, float]],
    names: tuple[str, str],
    outline: Float[np.ndarray, "n 2"],
    samples: Float[np.ndarray, "m 2"],
) -> Html:
    """Score over two objects' log scales (row 0 of the picture is the largest second scale), zone outline, samples."""
    width, height, left, bottom = 360, 340, 58, 296
    x, y = Axis(*ranges[0], left, width - 12), Axis(*ranges[1], bottom, 12)
    image = tag(
        "image", href=png_uri(picture), x=left, y=12, width=width - 12 - left, height=bottom - 12, preserveAspectRatio="none"
    )
    corners = " ".join(f"{x.px(a)},{y.px(b)}" for a, b in outline)
    dots = [tag("circle", cx=x.px(a), cy=y.px(b), r=2, class_="dot") for a, b in samples]
    across = [text(x.px(np.log(s)), bottom + 16, f"{s:.3g}", anchor="middle") for s in nice_scales(*ranges[0])]
    upwards = [text(left - 6, y.px(np.log(s)) + 4, f"{s:.3g}", anchor="end") for s in nice_scales(*ranges[1])]
    titles = [
        text((left + width) / 2, height - 8, f"scale of {names[0]}", "name", "middle"),
        tag("text", f"scale of {names[1]}", transform="translate(12 154) rotate(-90)", text_anchor="middle", class_="name"),
    ]
    zone = tag("polygon", points=corners, class_="outline") if len(outline) else Html("")
    label = f"Validity over the scales of {names[0]} and {names[1]}"
    return svg(width, height, image, zone, *dots, *across, *upwards, *titles, label=label)


def score_chart(name: str, log_scale: Float[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Html:
    """Score over one object's log scale."""
    width, height = 360, 200
    x, y = Axis(float(log_scale[0]), float(log_scale[-1]), 44, width - 12), Axis(0, 1, height - 44, 14)
    path = "M" + " L".join(f"{x.px(float(a))} {y.px(float(b))}" for a, b in zip(log_scale, score, strict=True))
    levels = [
        part
        for level in (0.0, 0.5, 1.0)
        for part in (
            line(44, y.px(level), width - 12, y.px(level), "grid"),
            text(38, y.px(level) + 4, f"{level:g}", anchor="end"),
        )
    ]
    ticks = [text(x.px(np.log(s)), height - 28, f"{s:.3g}", anchor="middle") for s in nice_scales(x.low, x.high)]
    title = text((44 + width) / 2, height - 8, f"scale of {name}", "name", "middle")
    drawn = tag("path", d=path, class_="curve")
    return svg(width, height, *levels, *ticks, title, drawn, label=f"Score over the scale of {name}")


def presence_strip(present: Sequence[bool], width: int = 150) -> Html:
    """In which frames something is there: a thin bar over the clip."""
    n = max(len(present), 1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(present, int), [0]])))
    parts = [
        tag("rect", x=round(a * width / n, 2), y=0, width=round((b - a) * width / n, 2), height=8, class_="bar")
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
    ground = tag("rect", x=0, y=0, width=width, height=8, class_="range")
    return svg(width, 8, ground, *parts, label=f"{int(np.sum(present))} of {n} frames")
