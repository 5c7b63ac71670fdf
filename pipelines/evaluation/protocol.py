"""The protocols: best of N samples, and the mean over many true scenes (DESIGN section 8; OSN, section 4)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int


def scale_distance(log_scale: Float[np.ndarray, "n K"], true_log_scale: Float[np.ndarray, " K"]) -> Float[np.ndarray, " n"]:
    """Euclidean distance in log scales, over the objects whose true scale is known; NaN where only the background's is."""
    known = np.isfinite(true_log_scale)
    if known.sum() < 2 <= len(known):
        return np.full(len(log_scale), np.nan)
    return np.linalg.norm(log_scale[:, known] - true_log_scale[known], axis=1)


def candidates(
    distance: Float[np.ndarray, " n"], closest: int, lucky: int, lucky_of: int, generator: np.random.Generator
) -> Int[np.ndarray, " m"]:
    """Samples worth rendering: the closest ones, and some at random of those that follow. Fewer where there are fewer."""
    order = np.argsort(distance, kind="stable")
    following = order[closest : closest + lucky_of]
    drawn = generator.choice(following, min(lucky, len(following)), replace=False) if len(following) else following
    return np.concatenate([order[:closest], np.sort(drawn)]).astype(np.int64)


_BETTER = {"psnr_db": 1, "ssim": 1, "ssimae": -1, "miou": 1}
"""Measures by which candidates are compared, and whether more or less of it is better."""


def best(scores: Sequence[Mapping[str, float]]) -> int:
    """The candidate that ranks best on average over the measures that are defined for all; of equals the first.

    A single scene, not the best value of every column. By one measure alone noise would choose: among the nearest scales
    the PSNR hardly differs, while depth may differ by half.
    """
    names = [name for name in _BETTER if all(np.isfinite(score.get(name, np.nan)) for score in scores)]
    values = np.array([[_BETTER[name] * score[name] for name in names] for score in scores]).reshape(len(scores), -1)
    n_better = (values[None] > values[:, None]).sum((1, 2))
    return int(n_better.argmin())


def mean_and_deviation(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Per column over several true scenes: mean, standard deviation (of the sample), and how many are defined."""
    summary = {}
    for name in rows[0] if rows else ():
        values = np.array([row[name] for row in rows if np.isfinite(row[name])])
        deviation = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
        mean = float(values.mean()) if len(values) else float("nan")
        summary[name] = {"mean": mean, "deviation": deviation, "n": float(len(values))}
    return summary
