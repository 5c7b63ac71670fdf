"""The report's section on scales: every object's interval, what sets its ends, and where combinations are valid."""

from itertools import combinations

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.palette_png import palette
from pipelines.reporting import charts
from pipelines.reporting.findings import Findings
from pipelines.reporting.markup import Html, join, tag
from pipelines.reporting.pictures import heat_map, jpeg_uri, place_picture
from pipelines.scene.zone import Bound, Zone

MAP_CELLS = 48
MAPS_AT_MOST = 6
SAMPLES_SHOWN = 200


def swatch_of(label: int) -> str:
    red, green, blue = palette()[label]
    return f"rgb({red},{green},{blue})"


def scales_section(found: Findings) -> Html:
    """Intervals, binding frames, validity maps; says so where the scales are not known or contradict each other."""
    scene, zone = found.scene, found.zone
    if scene is None or zone is None or found.log_scale_range is None:
        return tag("p", "The scales have not been learned: run osn train.", class_="absent")
    if len(scene.names) < 2:
        return tag("p", "No moving object is in the scene, so there is only one: the background.", class_="absent")
    if zone.contradiction is not None:
        return tag("p", zone.contradiction.describe(scene.names), class_="failed")
    explanation = (
        "Each bar spans the scales of one object for which the others can be chosen so that the video still comes out. "
        "Light: the range that was searched. Hatched ends are assumptions, not evidence: nothing in the video bounds the "
        "object there. Ticks are sampled scenes."
    )
    parts = [tag("p", explanation), charts.interval_chart(interval_rows(found, zone)), tag("h3", "What sets the ends")]
    return join([*parts, _ends(found, zone), tag("h3", "Which scales go together"), _maps(found, zone)])


def interval_rows(found: Findings, zone: Zone) -> list[charts.IntervalRow]:
    assert found.scene is not None and found.log_scale_range is not None
    scene, rows = found.scene, []
    for column in range(1, len(scene.names)):
        lower, upper = zone.explain_interval(column)
        low, high = zone.intervals[column]
        range_low, range_high = found.log_scale_range[column]
        rows.append(
            charts.IntervalRow(
                name=scene.names[column],
                swatch=swatch_of(scene.object_ids[column]),
                low=float(low),
                high=float(high),
                range_low=float(min(range_low, low)),
                range_high=float(max(range_high, high)),
                low_assumed=any(bound.assumed for bound in lower),
                high_assumed=any(bound.assumed for bound in upper),
                samples=_sampled(found)[:, column],
            )
        )
    return rows


def _sampled(found: Findings) -> Float[np.ndarray, "n K"]:
    """Log scales of the samples that are drawn into charts."""
    if found.samples is None or found.scene is None:
        return np.zeros((0, len(found.scene.names) if found.scene else 0))
    return found.samples.log_scale[:SAMPLES_SHOWN]


def _ends(found: Findings, zone: Zone) -> Html:
    """Two pictures per object: the place in the video that sets the lower end, and the one that sets the upper end."""
    assert found.scene is not None
    figures = [
        _end(found, f"{name}, {side} {float(np.exp(value)):.3g}", chain)
        for column, name in enumerate(found.scene.names)
        if column > 0
        for side, chain, value in zip(
            ("at least", "at most"), zone.explain_interval(column), zone.intervals[column], strict=True
        )
    ]
    return tag("div", *figures, class_="grid")


def _end(found: Findings, title: str, chain: list[Bound]) -> Html:
    assert found.scene is not None
    assumed = any(bound.assumed for bound in chain)
    clauses = "; ".join(bound.describe(found.scene.names) for bound in chain) or "nothing bounds it"
    placed = [bound for bound in chain if bound.frame is not None and bound.xy_px is not None]
    picture = Html("")
    if placed and found.video is not None and found.labels is not None:
        bound = placed[0]
        assert bound.frame is not None and bound.xy_px is not None
        image = place_picture(found.video, found.labels, bound.frame, bound.xy_px, 320)
        picture = tag("img", src=jpeg_uri(image), alt=f"frame {bound.frame}")
    doubt = tag("span", " Assumed.", class_="doubt") if assumed else Html("")
    return tag("figure", picture, tag("figcaption", tag("strong", title), tag("br"), clauses + ".", doubt))


def _maps(found: Findings, zone: Zone) -> Html:
    assert found.scene is not None
    movers = range(1, len(found.scene.names))
    if len(movers) == 1:
        return _single(found, zone)
    pairs = list(combinations(movers, 2))
    legend = "Bright: the scale network holds the combination for valid. Dashed: the bounds from pairwise occlusion. "
    if len(movers) > 2:
        legend += "The other objects stand in the middle of what the pair leaves them. "
    if len(pairs) > MAPS_AT_MOST:
        legend += f"The first {MAPS_AT_MOST} of {len(pairs)} pairs are shown. "
    drawn = [_map(found, zone, i, j) for i, j in pairs[:MAPS_AT_MOST]]
    return join([tag("p", legend, class_="quiet"), tag("div", *drawn, class_="charts")])


def _single(found: Findings, zone: Zone) -> Html:
    assert found.scene is not None and found.log_scale_range is not None
    low, high = found.log_scale_range[1].tolist()
    values = np.linspace(low, high, 200)
    combinations_ = np.stack([np.zeros_like(values), values], 1)
    score = validity(found, zone, combinations_)
    return tag("div", charts.score_chart(found.scene.names[1], values, score), class_="charts")


def validity(found: Findings, zone: Zone, log_scale: Float[np.ndarray, "n K"]) -> Float[np.ndarray, " n"]:
    """The network's score; membership in the zone where there is no network."""
    if found.network is not None:
        return np.asarray(found.network.score(log_scale), float)
    return zone.contains(log_scale).astype(float)


def completed(zone: Zone, fixed: dict[int, float]) -> Float[np.ndarray, " K"]:
    """A combination with some log scales given, the others in the middle of the intervals that these leave them."""
    log_scale = zone.given(fixed).mean(1)
    log_scale[[0, *fixed]] = [0.0, *fixed.values()]
    return log_scale


def validity_map(found: Findings, zone: Zone, i: int, j: int) -> UInt8[np.ndarray, "h w 3"]:
    """Score over the log scales of columns i (to the right) and j (upwards)."""
    assert found.log_scale_range is not None
    across, upwards = (cell_centres(low, high, MAP_CELLS) for low, high in found.log_scale_range[[i, j]].tolist())
    grid = np.stack([completed(zone, {i: float(a), j: float(b)}) for b in upwards[::-1] for a in across])
    return heat_map(validity(found, zone, grid).reshape(MAP_CELLS, MAP_CELLS))


def cell_centres(low: float, high: float, n: int) -> Float[np.ndarray, " n"]:
    return low + (np.arange(n) + 0.5) * (high - low) / n


def _map(found: Findings, zone: Zone, i: int, j: int) -> Html:
    assert found.scene is not None and found.log_scale_range is not None
    names = (found.scene.names[i], found.scene.names[j])
    (a, b), (c, d) = found.log_scale_range[[i, j]].tolist()
    sampled = _sampled(found)[:, [i, j]]
    return charts.validity_chart(validity_map(found, zone, i, j), ((a, b), (c, d)), names, zone_outline(zone, i, j), sampled)


def zone_outline(zone: Zone, i: int, j: int) -> Float[np.ndarray, "n 2"]:
    """Corners of the zone's projection on two columns: a rectangle, cut by the bounds on their difference."""
    (low_i, high_i), (low_j, high_j) = zone.intervals[[i, j]]
    least, most = zone.pair_interval(i, j)
    corners = np.array([[low_i, low_j], [high_i, low_j], [high_i, high_j], [low_i, high_j]])
    corners = clipped(corners, np.array([1.0, -1.0]), most)
    return clipped(corners, np.array([-1.0, 1.0]), -least)


def clipped(corners: Float[np.ndarray, "n 2"], normal: Float[np.ndarray, "2"], limit: float) -> Float[np.ndarray, "m 2"]:
    """The part of a convex polygon with `normal . x <= limit` (Sutherland and Hodgman, 1974)."""
    kept = []
    for here, after in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside, outside_next = normal @ here - limit, normal @ after - limit
        if inside <= 0:
            kept.append(here)
        if inside * outside_next < 0:
            kept.append(here + (after - here) * inside / (inside - outside_next))
    return np.array(kept).reshape(-1, 2)
