"""Do groups of tracks move as one rigid body? Three-view motions over several frame triplets, and what they say of tracks.

Symbols: P tracks, T frames, G groups, V triplets of frames. Positions are in px.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.segmentation.three_view import ThreeViewMotion, fit_best

MIN_POINTS = 6
"""Fewer points do not test a three-view motion."""
MOST_POINTS = 400
"""More are thinned out: they cost time and add nothing."""
PROJECTIVE_GAIN = 1.3
"""By which factor a projective motion must lower the variance to be preferred to an affine one."""


@dataclass(frozen=True)
class RigidityTest:
    """Tracks, the frame triplets on which they are compared, and the noise of their positions."""

    xy_px: Float[np.ndarray, "P T 2"]
    visible: Bool[np.ndarray, "P T"]
    triplets: tuple[list[int], ...]
    noise_px: float
    """Positions are not trusted to be better than this."""

    def spanning(self, group: Int[np.ndarray, " n"], triplet: list[int]) -> Int[np.ndarray, " _"]:
        """The tracks of the group that are seen in all three frames."""
        return group[self.visible[group][:, triplet].all(1)]

    def motions(self, group: Int[np.ndarray, " n"]) -> list[tuple[ThreeViewMotion, float] | None]:
        """Per triplet the group's motion and its variance in px^2; None where too few points span the triplet."""
        return [self._motion(group, triplet) for triplet in self.triplets]

    def _motion(self, group: Int[np.ndarray, " n"], triplet: list[int]) -> tuple[ThreeViewMotion, float] | None:
        seen = self.spanning(group, triplet)
        if len(seen) < MIN_POINTS:
            return None
        thinned = seen[:: -(-len(seen) // MOST_POINTS)]
        views = self.xy_px[thinned][:, triplet]
        return fit_best(views, np.ones(len(views)), 3 * self.noise_px, PROJECTIVE_GAIN)

    def normalised_residuals(
        self, motions: Sequence[tuple[ThreeViewMotion, float] | None], cap: float
    ) -> tuple[Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Mean over the triplets of every track's residual in units of the noise (at most `cap`), and how many there were.

        A track without a common triplet gets `cap`.
        """
        total, count = np.zeros(len(self.xy_px)), np.zeros(len(self.xy_px), int)
        for triplet, fitted in zip(self.triplets, motions, strict=True):
            if fitted is None:
                continue
            motion, variance = fitted
            seen = np.flatnonzero(self.visible[:, triplet].all(1))
            squared = motion.squared_residuals(self.xy_px[seen][:, triplet])
            total[seen] += np.minimum(np.sqrt(squared / max(variance, self.noise_px**2)), cap)
            count[seen] += 1
        return np.where(count > 0, total / np.maximum(count, 1), cap), count

    def mean_log_variance(self, motions: Sequence[tuple[ThreeViewMotion, float] | None]) -> Float[np.ndarray, " P"]:
        """Mean over every track's triplets of the log variance, in units of the noise (never below it)."""
        total, count = np.zeros(len(self.xy_px)), np.zeros(len(self.xy_px), int)
        for triplet, fitted in zip(self.triplets, motions, strict=True):
            if fitted is not None:
                seen = self.visible[:, triplet].all(1)
                total[seen] += np.log(max(fitted[1] / self.noise_px**2, 1.0))
                count[seen] += 1
        return total / np.maximum(count, 1)


def frame_triplets(n_frames: int, strides: Sequence[int], per_stride: int) -> tuple[list[int], ...]:
    """(t, t + stride, t + 2 stride), evenly spread over the clip."""
    triplets: list[list[int]] = []
    for stride in strides:
        n = n_frames - 2 * stride
        if n > 0:
            starts = np.unique(np.linspace(0, n - 1, min(n, per_stride)).round().astype(int))
            triplets += [[int(t), int(t) + stride, int(t) + 2 * stride] for t in starts]
    return tuple(triplets)


def misfit(
    test: RigidityTest,
    model_of: Sequence[Int[np.ndarray, " _"]],
    judged: Sequence[Int[np.ndarray, " _"]],
    own: Sequence[Sequence[tuple[ThreeViewMotion, float] | None]],
    quantile: float = 0.5,
) -> float:
    """How badly one rigid motion explains several groups: 1 is as well as each explains itself.

    The motion is fitted to the groups `model_of`, each with the same total weight, and judged on the groups `judged`, whose own
    motions are `own`. Per triplet the worst judged group counts; the result is a quantile over triplets, inf without any.
    """
    ratios = []
    for v, triplet in enumerate(test.triplets):
        fitted = _balanced_fit(test, model_of, triplet)
        if fitted is None:
            continue
        worst = [_ratio(test, fitted, group, triplet, self_fit[v]) for group, self_fit in zip(judged, own, strict=True)]
        if worst and all(np.isfinite(worst)):
            ratios.append(max(worst))
    return float(np.quantile(ratios, quantile)) if ratios else np.inf


def _balanced_fit(test: RigidityTest, groups: Sequence[Int[np.ndarray, " _"]], triplet: list[int]) -> ThreeViewMotion | None:
    views, weights = [], []
    for group in groups:
        seen = test.spanning(group, triplet)
        if len(seen) < MIN_POINTS:
            return None
        thinned = seen[:: -(-len(seen) // MOST_POINTS)]
        views.append(test.xy_px[thinned][:, triplet])
        weights.append(np.full(len(thinned), 1 / len(thinned)))
    weight = np.concatenate(weights)
    return fit_best(np.concatenate(views), weight / weight.mean(), 3 * test.noise_px, PROJECTIVE_GAIN)[0]


def _ratio(
    test: RigidityTest,
    motion: ThreeViewMotion,
    group: Int[np.ndarray, " n"],
    triplet: list[int],
    own: tuple[ThreeViewMotion, float] | None,
) -> float:
    """Root of the group's median squared residual under the motion over its own."""
    if own is None:
        return np.inf
    seen = test.spanning(group, triplet)
    squared = np.median(motion.squared_residuals(test.xy_px[seen][:, triplet])) / 0.789
    return float(np.sqrt(squared / max(own[1], test.noise_px**2)))
