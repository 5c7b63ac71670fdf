"""The scales that a person sets by hand: each object within what the others leave it.

Symbols: K scene columns, column 0 the background, log scale 0. An interval is a pair of log scales.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pipelines.scene.zone import Zone


@dataclass(frozen=True)
class ScaleState:
    """A combination and what is known about it. Setting one scale gives a new state; nothing is changed in place."""

    log_scale: Float[np.ndarray, " K"]
    log_scale_range: Float[np.ndarray, "K 2"]
    zone: Zone | None = None
    network: Any = None
    """A ScaleNetwork; None before the scales have been learned."""

    @property
    def scale(self) -> Float[np.ndarray, " K"]:
        return np.exp(self.log_scale)

    def interval(self, column: int) -> tuple[float, float]:
        """What the scales of the others leave this object. The initial range where there is no zone, or where the others
        contradict each other already."""
        whole = self.log_scale_range[column]
        if self.zone is None or self.zone.is_empty:
            return float(whole[0]), float(whole[1])
        others = {k: float(x) for k, x in enumerate(self.log_scale) if k not in (0, column)}
        low, high = self.zone.given(others)[column]
        return (float(low), float(high)) if low <= high else (float(whole[0]), float(whole[1]))

    def with_scale(self, column: int, log_scale: float) -> "ScaleState":
        """One object's scale moved, at most to the end of its interval."""
        moved = self.log_scale.copy()
        moved[column] = np.clip(log_scale, *self.interval(column))
        return replace(self, log_scale=moved)

    def with_all(self, log_scale: Float[np.ndarray, " K"]) -> "ScaleState":
        return replace(self, log_scale=np.array(log_scale, float))

    @property
    def in_zone(self) -> bool | None:
        """Whether it agrees with what hides what in the video; None where that is not known."""
        return None if self.zone is None else bool(self.zone.contains(self._rounded())[0])

    def _rounded(self) -> Float[np.ndarray, "1 K"]:
        """The combination, moved inwards by what its own rounding may be off at a bound."""
        if self.zone is None or self.zone.is_empty:
            return self.log_scale[None]
        low, high = np.transpose([self.interval(k) if k else (0.0, 0.0) for k in range(len(self.log_scale))])
        middle = (low + high) / 2
        return (middle + (self.log_scale - middle) * (1 - 1e-9))[None]

    @property
    def score(self) -> float | None:
        """The network's probability that the combination is valid; None without a network."""
        return None if self.network is None else float(self.network.score(self.log_scale[None])[0])

    def assumed_ends(self, column: int) -> tuple[bool, bool]:
        """Whether the lower and the upper end of an object's interval over all scenes are assumptions."""
        if self.zone is None or self.zone.is_empty:
            return True, True
        lower, upper = self.zone.explain_interval(column)
        return any(bound.assumed for bound in lower), any(bound.assumed for bound in upper)


def starting_state(
    log_scale: Float[np.ndarray, "n K"], log_scale_range: Float[np.ndarray, "K 2"], zone: Zone | None, network: Any
) -> ScaleState:
    """The first sample; without samples the middle of what is possible."""
    if len(log_scale):
        first = log_scale[0]
    else:
        known = zone is not None and not zone.is_empty
        first = (zone.intervals if zone is not None and known else log_scale_range).mean(1)
    return ScaleState(np.array(first, float), log_scale_range, zone, network)


def append_own_sample(path: Path, state: ScaleState, object_ids: Sequence[int] | Int[np.ndarray, " K"]) -> int:
    """Add a combination to a CSV file of the same columns as samples.csv; returns its number in the file."""
    header = ",".join(["sample", "score", *(f"scale_{k}" for k in object_ids)])
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if lines and lines[0] != header:
        path.rename(_unused(path))
        lines = []
    lines = lines or [header]
    score = "" if state.score is None else f"{state.score:.6f}"
    number = len(lines) - 1
    lines.append(",".join([str(number), score, *(f"{s:.9g}" for s in state.scale)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return number


def _unused(path: Path) -> Path:
    """`own_samples_old_1.csv`, ...: combinations of other objects than the scene has now are kept."""
    number = 1
    while (other := path.with_name(f"{path.stem}_old_{number}{path.suffix}")).exists():
        number += 1
    return other


def as_choice(state: ScaleState) -> str:
    """The combination as `osn render --samples` and `osn export --sample` take it."""
    return "scales:" + ",".join(f"{s:.6g}" for s in state.scale[1:])
