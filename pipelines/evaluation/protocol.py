"""The protocols: best of N samples, and the mean over many true scenes (DESIGN section 8; OSN, section 4)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int


def scale_distance(log_scale: Float[np.ndarray, "n K"], true_log_scale: Float[np.ndarray, " K"]) -> Float[np.ndarray, " n"]:
    """Euclidean distance in log scales, over the objects whose true scale is known."""
    known = np.isfinite(true_log_scale)
    return np.linalg.norm(log_scale[:, known] - true_log_scale[known], axis=1)


def candidates(
    distance: Float[np.ndarray, " n"], closest: int, lucky: int, lucky_of: int, generator: np.random.Generator
) -> Int[np.ndarray, " m"]:
    """Samples worth rendering: the closest ones, and some at random of those that follow. Fewer where there are fewer."""
    order = np.argsort(distance, kind="stable")
    following = order[closest : closest + lucky_of]
    drawn = generator.choice(following, min(lucky, len(following)), replace=False) if len(following) else following
    return np.concatenate([order[:closest], np.sort(drawn)]).astype(np.int64)


def mean_and_deviation(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Per column over several true scenes: mean, standard deviation (of the sample), and how many are defined."""
    summary = {}
    for name in rows[0] if rows else ():
        values = np.array([row[name] for row in rows if np.isfinite(row[name])])
        deviation = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        mean = float(values.mean()) if len(values) else float("nan")
        summary[name] = {"mean": mean, "deviation": deviation, "n": float(len(values))}
    return summary
