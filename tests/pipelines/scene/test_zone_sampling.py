"""Exactness is tested against plain rejection from the box of intervals, the slow obvious way to be uniform."""

import numpy as np
import pytest
from scipy import stats

from pipelines.scene import zone_sampling
from pipelines.scene.zone_sampling import Measure, parts, sample, volume


def closed(bounds: np.ndarray) -> np.ndarray:
    for via in range(len(bounds)):
        bounds = np.minimum(bounds, bounds[:, via, None] + bounds[None, via])
    return bounds


def random_bounds(seed: int, n: int = 5, ties: int = 5) -> np.ndarray:
    generator = np.random.default_rng(seed)
    bounds = np.where(np.eye(n, dtype=bool), 0.0, np.inf)
    bounds[1:, 0], bounds[0, 1:] = generator.uniform(0.3, 1.0, n - 1), generator.uniform(0.0, 0.5, n - 1)
    for _ in range(ties):
        i, j = generator.choice(np.arange(1, n), 2, replace=False)
        bounds[i, j] = generator.uniform(0.0, 0.3)
    return closed(bounds)


def ordered(n: int, width: float = 1.0) -> np.ndarray:
    """x_1 <= x_2 <= ... within an interval: a simplex, of whose box only 1 / (n-1)! is inside."""
    bounds = np.where(np.eye(n, dtype=bool), 0.0, np.inf)
    bounds[1:, 0], bounds[0, 1:] = width, 0.0
    for k in range(1, n - 1):
        bounds[k, k + 1] = 0.0
    return closed(bounds)


def by_rejection(bounds: np.ndarray, n: int, measure: Measure, seed: int = 9) -> tuple[np.ndarray, float]:
    """Uniform points, and the volume."""
    low, high = -bounds[0], bounds[:, 0]
    u = np.random.default_rng(seed).random((n, len(bounds)))
    if measure is Measure.LINEAR:
        x, box = np.log(np.exp(low) + u * (np.exp(high) - np.exp(low))), np.prod((np.exp(high) - np.exp(low))[1:])
    else:
        x, box = low + u * (high - low), np.prod((high - low)[1:])
    inside = np.all(x[:, :, None] - x[:, None, :] <= bounds + 1e-12, axis=(1, 2))
    return x[inside], float(box * inside.mean())


def assert_same_distribution(x: np.ndarray, reference: np.ndarray) -> None:
    """Kolmogorov-Smirnov on every coordinate, every difference, and the sum."""
    n = x.shape[1]
    views = [(lambda p, i=i, j=j: p[:, i] - p[:, j]) for i in range(n) for j in range(i)] + [lambda p: p.sum(1)]
    least = min(stats.ks_2samp(view(x), view(reference)).pvalue for view in views)
    assert least > 1e-3 / len(views)


@pytest.mark.parametrize("measure", list(Measure))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_samples_are_uniform(seed, measure):
    bounds = random_bounds(seed)
    x = sample(bounds, 4000, np.random.default_rng(seed), measure)
    reference, _ = by_rejection(bounds, 200_000, measure)
    assert len(reference) > 2000
    assert_same_distribution(x, reference)


@pytest.mark.parametrize("measure", list(Measure))
@pytest.mark.parametrize("way", [zone_sampling._perfect, zone_sampling._resampled])
def test_the_other_ways_are_uniform_too(way, measure):
    bounds = random_bounds(1)
    x = way(bounds, np.arange(1, 5), 4000, np.random.default_rng(0), measure)
    reference, _ = by_rejection(bounds, 200_000, measure)
    assert_same_distribution(np.pad(x, ((0, 0), (1, 0))), reference)


def test_eight_ordered_objects_are_sampled_exactly():
    # Order statistics of 8 uniform numbers: the k-th is Beta(k, 9 - k). Plain rejection accepts one in 40,320.
    x = sample(ordered(9), 3000, np.random.default_rng(0), Measure.LOG)
    assert np.all(np.diff(x[:, 1:], axis=1) >= 0)
    for k in range(1, 9):
        assert stats.kstest(x[:, k], stats.beta(k, 9 - k).cdf).pvalue > 1e-4


@pytest.mark.parametrize("measure", list(Measure))
def test_volume_is_that_of_rejection(measure):
    for seed in range(3):
        bounds = random_bounds(seed)
        estimate, error = volume(bounds, np.random.default_rng(0), measure)
        _, reference = by_rejection(bounds, 400_000, measure)
        assert estimate == pytest.approx(reference, abs=5 * error + 0.02 * reference)
    assert volume(ordered(5), np.random.default_rng(0), Measure.LOG)[0] == pytest.approx(1 / 24, rel=0.05)


def test_untied_objects_fall_apart():
    bounds = np.where(np.eye(6, dtype=bool), 0.0, np.inf)
    bounds[1:, 0], bounds[0, 1:] = 1.0, 1.0
    bounds[1, 4] = 0.5
    bounds[2, 3] = 3.0
    assert [part.tolist() for part in parts(closed(bounds))] == [[1, 4], [2], [3], [5]]
    exact, error = volume(closed(bounds), np.random.default_rng(0), Measure.LOG)
    # Of the square of side 2, the corner triangle with legs 1.5 is cut off.
    assert exact == pytest.approx((4 - 1.5**2 / 2) * 8, rel=0.02) and error > 0


def test_equal_scales_stay_equal():
    bounds = np.where(np.eye(4, dtype=bool), 0.0, np.inf)
    bounds[1:, 0], bounds[0, 1:] = 1.0, 1.0
    bounds[1, 2], bounds[2, 1] = 0.25, -0.25
    for measure in Measure:
        x = sample(closed(bounds), 500, np.random.default_rng(0), measure)
        assert np.allclose(x[:, 1] - x[:, 2], 0.25)
        assert stats.kstest(x[:, 3], stats.uniform(-1, 2).cdf).pvalue < (1e-6 if measure is Measure.LINEAR else 1)


def test_the_same_seed_gives_the_same_samples():
    bounds = ordered(9)
    first = sample(bounds, 50, np.random.default_rng(4), Measure.LINEAR)
    assert np.array_equal(first, sample(bounds, 50, np.random.default_rng(4), Measure.LINEAR))
    assert not np.array_equal(first, sample(bounds, 50, np.random.default_rng(5), Measure.LINEAR))
