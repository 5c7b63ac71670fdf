import numpy as np
import pytest

from pipelines.scene.labelling import (
    ViolationCounter,
    assess,
    draw_candidates,
    violated_pairs,
    without_violated,
)
from pipelines.scene.orders import OrderTests
from pipelines.scene.zone import zone_at_share


def ranges(n_columns: int, half_width: float = 1.0) -> np.ndarray:
    limits = np.tile([-half_width, half_width], (n_columns, 1))
    limits[0] = 0
    return limits


def uniform(n: int, n_columns: int, half_width: float = 1.0) -> np.ndarray:
    x = np.random.default_rng(7).uniform(-half_width, half_width, (n, n_columns))
    x[:, 0] = 0
    return x


def violated_slowly(tests: OrderTests, x: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Test by test, ray by ray, over the rays to keep."""
    counts = []
    for point in x:
        wrong = np.zeros(tests.n_rays, bool)
        for ray, i, j, bound in zip(tests.ray, tests.front, tests.back, tests.bound, strict=True):
            wrong[ray] |= point[i] - point[j] > bound
        counts.append(int(wrong[keep].sum()))
    return np.array(counts)


@pytest.mark.parametrize("n_columns", [2, 4, 6])
def test_counts_are_those_of_the_slow_way(n_columns, random_tests):
    tests = random_tests(np.random.default_rng(n_columns), n_columns, 150)
    x = uniform(60, n_columns)
    counter = ViolationCounter.from_tests(tests, ranges(n_columns))
    assert np.array_equal(counter.violated(x), violated_slowly(tests, x, np.ones(150, bool)))
    assert counter.agreement(np.zeros((1, n_columns)))[0] == 1.0


def test_rays_that_no_scales_in_range_satisfy_do_not_count(tests_of):
    tests = tests_of([(0, 1, 0, 0.2), (1, 1, 0, -1.5), (2, 1, 2, -2.5), (2, 1, 0, 0.3), (3, 1, 0, 5.0)], 3)
    counter = ViolationCounter.from_tests(tests, ranges(3))
    assert (counter.n_rays, counter.n_hopeless) == (2, 2)
    x = np.array([[0, 0.1, 0.0], [0, 0.25, 0.0], [0, 0.9, 0.0]])
    assert counter.violated(x).tolist() == [0, 1, 1]


def test_chunks_do_not_matter(random_tests, monkeypatch):
    tests = random_tests(np.random.default_rng(0), 5, 100)
    counter = ViolationCounter.from_tests(tests, ranges(5))
    x = uniform(70, 5)
    whole = counter.violated(x)
    monkeypatch.setattr("pipelines.scene.labelling._CHUNK", 64)
    assert np.array_equal(counter.violated(x), whole)


def test_valid_is_agreement_of_all_but_a_share(random_tests, monkeypatch):
    tests = random_tests(np.random.default_rng(0), 3, 400)
    monkeypatch.setattr("pipelines.scene.labelling.VIOLATED_SHARE", 0.05)
    validity = assess(tests, ranges(3))
    x = uniform(500, 3, half_width=0.12)
    # x = 0 violates nothing, so no ray is noise.
    assert validity.noise_share == 0 and not validity.is_contradictory
    agreement = 1 - violated_slowly(tests, x, np.ones(400, bool)) / 400
    assert np.array_equal(validity.valid(x), agreement >= 0.95)
    assert 0 < validity.valid(x).mean() < 1
    # The zone counts tests, not rays, so it lacks a few combinations that violate two tests of one ray.
    inside = validity.zone.contains(x)
    assert validity.valid(x[inside]).all()
    assert inside.sum() > 0.8 * validity.valid(x).sum()


def contradicting(tests_of, n_wrong: int) -> OrderTests:
    """97 rays say `x_1 <= x_2 + 0.1 + noise`; n_wrong say the opposite by far."""
    true = [(r, 1, 2, 0.1 + 0.001 * r) for r in range(97)]
    return tests_of(true + [(97 + r, 2, 1, -0.5) for r in range(n_wrong)], 3)


def test_rays_that_contradict_the_rest_are_noise(tests_of, monkeypatch):
    monkeypatch.setattr("pipelines.scene.labelling.VIOLATED_SHARE", 0.01)
    validity = assess(contradicting(tests_of, 3), ranges(3))
    assert validity.noise_share == pytest.approx(0.03)
    assert validity.counter.n_rays == 97
    assert not validity.zone.is_empty and validity.zone.violated_share == 0.01
    assert validity.zone.pair_interval(1, 2)[1] == pytest.approx(0.1)
    assert validity.valid(np.array([[0, 0.0, 0.0], [0, 0.3, 0.0]])).tolist() == [True, False]


def test_too_much_noise_leaves_nothing_valid(tests_of):
    tests = contradicting(tests_of, 40)
    validity = assess(tests, ranges(3))
    assert validity.is_contradictory
    assert not validity.valid(uniform(500, 3)).any()
    assert violated_pairs(tests, np.zeros(3)) == [(2, 1, pytest.approx(40 / 137))]


def test_some_noise_is_usable_but_doubtful(tests_of):
    validity = assess(contradicting(tests_of, 20), ranges(3))
    assert validity.noise_share == pytest.approx(20 / 117)
    assert validity.is_doubtful and not validity.is_contradictory
    assert not assess(contradicting(tests_of, 3), ranges(3)).is_doubtful


def test_rays_that_no_scales_satisfy_are_noise_too(tests_of):
    rows = [(r, 1, 0, 0.5) for r in range(85)] + [(r, 1, 0, -5.0) for r in range(85, 100)]
    validity = assess(tests_of(rows, 2), ranges(2))
    assert validity.noise_share == pytest.approx(0.15)
    assert validity.is_doubtful and not validity.is_contradictory
    assert validity.counter.n_rays == 85


def test_without_violated_renumbers_the_rays(random_tests):
    tests = random_tests(np.random.default_rng(0), 4, 50)
    x = np.array([0, 0.4, -0.3, 0.2])
    kept = without_violated(tests, x)
    wrong = violated_slowly(tests, x[None], np.ones(50, bool))[0]
    assert kept.n_rays == 50 - wrong
    assert np.array_equal(np.unique(kept.ray), np.arange(kept.n_rays))
    assert violated_pairs(kept, x) == []
    # Each test still belongs to the same ray of the video (in these tests, ray r is in frame r).
    before = set(zip(tests.ray, tests.front, tests.back, tests.bound, strict=True))
    assert all(
        (kept.ray_frame[r], i, j, bound) in before
        for r, i, j, bound in zip(kept.ray, kept.front, kept.back, kept.bound, strict=True)
    )


def test_candidates_gather_about_the_surface(tests_of):
    # Eight objects, each within 2 % of its range: uniform candidates never hit.
    rows = [(2 * k, k, 0, 0.02) for k in range(1, 9)] + [(2 * k + 1, 0, k, 0.02) for k in range(1, 9)]
    zone = zone_at_share(tests_of(rows, 9), ranges(9), 0.0)
    x = draw_candidates(zone, ranges(9), 4000, np.random.default_rng(0))
    assert x.shape == (4000, 9) and np.all(x[:, 0] == 0) and np.all(np.abs(x) <= 1)
    inside = zone.contains(x)
    assert 0.4 < inside.mean() < 0.6
    far = np.abs(x).max(1) > 0.1
    assert np.mean(far) == pytest.approx(0.25, abs=0.03)
    assert np.array_equal(x, draw_candidates(zone, ranges(9), 4000, np.random.default_rng(0)))


def test_no_rays_mean_that_everything_is_valid(tests_of):
    validity = assess(tests_of([], 3, n_rays=0), ranges(3))
    assert validity.valid(uniform(50, 3)).all()
    assert validity.noise_share == 0
