import numpy as np
import pytest

from pipelines.errors import ReconstructionError
from pipelines.scene.zone import Bound, Zone, tightest_zone, zone_at_share

NAMES = ("floor", "ball", "crate", "ring")


def ranges(n_columns: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    limits = np.tile([low, high], (n_columns, 1))
    limits[0] = 0
    return limits


@pytest.fixture
def chain(tests_of) -> Zone:
    """Ball before crate (0.1), crate before floor (0.2): so ball <= 0.3. Crate hidden by the floor once: crate >= -0.4."""
    rows = [(0, 1, 2, 0.1), (1, 2, 0, 0.2), (2, 0, 2, 0.4)]
    return zone_at_share(tests_of(rows, 3), ranges(3), violated_share=0.0)


def test_intervals_by_hand(chain):
    assert chain.intervals == pytest.approx(np.array([[0, 0], [-1, 0.3], [-0.4, 0.2]]))
    assert chain.pair_interval(1, 2) == pytest.approx((-1.2, 0.1))
    assert not chain.is_empty


def test_every_end_names_its_cause(chain):
    low, high = chain.explain_interval(1)
    assert high == [Bound(1, 2, 0.1, 0, (0.5, 2.5), False), Bound(2, 0, 0.2, 1, (1.5, 2.5), False)]
    assert low == [Bound(0, 1, 1.0, None, None, True)]
    assert [bound.describe(NAMES) for bound in high] == [
        "ball hides crate in frame 0 at pixel (0.5, 2.5)",
        "crate hides floor in frame 1 at pixel (1.5, 2.5)",
    ]
    assert low[0].describe(NAMES) == "the near limit of ball"
    assert chain.explain_interval(2)[0] == [Bound(0, 2, 0.4, 2, (2.5, 2.5), False)]


def test_bounds_that_lean_on_assumed_geometry_are_flagged(tests_of):
    zone = zone_at_share(tests_of([(0, 1, 2, 0.1), (1, 2, 0, 0.2)], 3), ranges(3), 0.0, assumed_columns=[0])
    assert [bound.assumed for bound in zone.explain(1, 0)] == [False, True]
    assert "assumed depth" in zone.explain(2, 0)[0].describe(NAMES)


def test_a_bound_gives_up_a_share_of_all_rays(tests_of):
    rows = [(r, 1, 0, r / 100) for r in range(50)] + [(50 + r, 2, 0, 0.5) for r in range(50)]
    for share, expected in [(0.0, 0.0), (0.01, 0.01), (0.10, 0.10)]:
        zone = zone_at_share(tests_of(rows, 3), ranges(3), share)
        assert zone.intervals[1, 1] == pytest.approx(expected)
        # Exactly the allowed number of rays is violated at the very end of the interval.
        assert sum(bound < zone.intervals[1, 1] for _, front, _, bound in rows if front == 1) == round(100 * share)
    # A pair with fewer rays than may be violated bounds nothing.
    few = tests_of([(0, 1, 0, -0.5)] + [(1 + r, 2, 0, 0.5) for r in range(200)], 3)
    assert zone_at_share(few, ranges(3), 0.005).intervals[1, 1] == 1.0


def test_a_contradiction_names_the_culprits(tests_of):
    rows = [(0, 1, 2, 0.1), (1, 2, 3, -0.3), (2, 3, 1, 0.1), (3, 3, 0, 0.2)]
    zone = zone_at_share(tests_of(rows, 4), ranges(4), 0.0)
    assert zone.is_empty
    assert sorted(zone.contradiction.columns) == [1, 2, 3]
    assert zone.contradiction.excess == pytest.approx(-0.1)
    assert {bound.frame for bound in zone.contradiction.bounds} == {0, 1, 2}
    with pytest.raises(ReconstructionError, match=r"factor of 1\.11.*crate hides ring in frame 1 at pixel \(1\.5, 2\.5\)"):
        zone.require_nonempty(NAMES)
    with pytest.raises(ReconstructionError, match="no scales agree"):
        zone.sample(3, np.random.default_rng(0))
    assert zone.volume(np.random.default_rng(0)) == (0.0, 0.0)


def test_a_contradiction_with_a_limit_says_so(tests_of):
    zone = zone_at_share(tests_of([(0, 1, 0, -1.5)], 2), ranges(2), 0.0)
    assert "the near limit of ball" in zone.contradiction.describe(NAMES)


def test_a_chain_of_cycles_is_found_wherever_it_is():
    generator = np.random.default_rng(1)
    for _ in range(200):
        n = int(generator.integers(2, 8))
        bounds = np.where(generator.random((n, n)) < 0.4, generator.uniform(-0.4, 1.0, (n, n)), np.inf)
        np.fill_diagonal(bounds, 0.0)
        zone = Zone(bounds, np.zeros((n, n), int), np.zeros((n, n, 2)), np.zeros((n, n), bool), np.zeros((n, n), bool), 0.0)
        closed = bounds.copy()
        for via in range(n):
            closed = np.minimum(closed, closed[:, via, None] + closed[None, via])
        assert zone.is_empty == bool((np.diag(closed) < -1e-9).any())
        if zone.is_empty:
            cycle = zone.contradiction.bounds
            assert zone.contradiction.excess < 0
            assert all(a.back == b.front for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True))
            assert len(set(zone.contradiction.columns)) == len(cycle)


def test_the_tightest_zone_gives_up_no_more_than_it_must(tests_of):
    true = [(r, 1, 2, 0.1) for r in range(970)]
    wrong = [(970 + r, 2, 1, -0.5) for r in range(30)]
    tests = tests_of(true + wrong, 3)
    zone = tightest_zone(tests, ranges(3), 0.2)
    # 30 of 1,000 rays must be given up; the share is found to within 0.2 / 2^8.
    assert not zone.is_empty and 0.03 <= zone.violated_share <= 0.0308
    assert tightest_zone(tests_of(true, 3), ranges(3), 0.2).violated_share == 0.0
    assert tightest_zone(tests, ranges(3), 0.02).is_empty


@pytest.fixture
def tangled(random_tests) -> Zone:
    return zone_at_share(random_tests(np.random.default_rng(3), 5, 40), ranges(5), 0.0)


def test_membership_is_the_definition(random_tests):
    zone = zone_at_share(random_tests(np.random.default_rng(3), 5, 150), ranges(5), 0.04)
    x = np.concatenate([np.zeros((4000, 1)), np.random.default_rng(0).uniform(-0.1, 0.1, (4000, 4))], axis=1)
    slow = np.array([np.all(point[:, None] - point[None] <= zone.bounds) for point in x])
    violated = [sum(np.sum(point[i] - point[j] > tail) for i, j, tail in zone.tails) for point in x]
    assert zone.allowed == 6
    assert np.array_equal(zone.contains(x), slow & (np.array(violated) <= 6))
    assert 0 < zone.contains(x).sum() < slow.sum() < len(x)


def test_samples_are_inside_and_reach_the_ends(tangled):
    x = tangled.sample(20_000, np.random.default_rng(0))
    assert np.all(x[:, 0] == 0)
    assert tangled.contains(x).all()
    low, high = tangled.intervals.T
    assert np.all(x >= low - 1e-9) and np.all(x <= high + 1e-9)
    assert np.allclose(x.min(0), low, atol=0.12) and np.allclose(x.max(0), high, atol=0.12)


def test_given_is_the_range_of_the_others(tangled):
    x = tangled.sample(200_000, np.random.default_rng(0))
    fixed = {2: float(x[0, 2]), 4: float(x[0, 4])}
    near = np.all(np.abs(x[:, [2, 4]] - [fixed[2], fixed[4]]) < 0.01, axis=1)
    low, high = tangled.given(fixed).T
    assert near.sum() > 20
    assert np.all(x[near] >= low - 0.02) and np.all(x[near] <= high + 0.02)
    assert np.allclose(x[near][:, [1, 3]].max(0), high[[1, 3]], atol=0.15)
    assert (low[2], high[2]) == pytest.approx((fixed[2], fixed[2]))
    beyond = tangled.given({2: float(tangled.intervals[2, 1]) + 0.1})
    assert np.any(beyond[:, 0] > beyond[:, 1])


def test_pairs_share_one_allowance(tests_of):
    # Two objects, each with 50 tests at 0.00, 0.01, ...: ten of all tests may be violated.
    rows = [(r, 1, 0, r / 100) for r in range(50)] + [(50 + r, 2, 0, r / 100) for r in range(50)]
    zone = zone_at_share(tests_of(rows, 3), ranges(3), 0.1)
    assert zone.intervals[1:, 1] == pytest.approx([0.1, 0.1])
    x = np.array([[0, 0.095, -0.5], [0, 0.045, 0.045], [0, 0.095, 0.005], [0, 0.05, 0.06]])
    assert zone.contains(x).tolist() == [True, True, False, False]
    assert zone.contains(zone.sample(500, np.random.default_rng(0))).all()
    area, error = zone.volume(np.random.default_rng(0))
    # The square of side 1.1, less its corner beyond the staircase of allowed pairs of counts.
    staircase = sum(0.01 * (0.01 * (10 - a)) for a in range(1, 11)) + 0.01 * 0
    assert area == pytest.approx(1.1**2 - (0.1**2 - staircase), abs=5 * error + 1e-3)


def test_a_set_too_small_for_rejection_is_sampled_inside(tests_of):
    # Twelve objects whose pairs together exhaust an allowance that each could use alone, on top of a box a hundred times wider.
    rows = [(100 * k + r, k, 0, 0.5 if r else -0.99) for k in range(1, 13) for r in range(20)]
    zone = zone_at_share(tests_of(rows, 13), ranges(13), 2 / 1220)
    assert zone.allowed == 2
    assert zone.contains(zone.sample(20, np.random.default_rng(0))).all()


def test_lines_leave_at_the_surface(tangled):
    generator = np.random.default_rng(0)
    origin = tangled.sample(500, generator)
    towards = np.concatenate([np.zeros((500, 1)), generator.uniform(-3, 3, (500, 4))], axis=1)
    t = tangled.exit_along(origin, towards)
    inner, outer = origin + t[:, None] * towards, origin + (t + 2**-11)[:, None] * towards
    left = t < 1
    assert left.mean() > 0.9
    assert tangled.contains(inner[left]).all() and not tangled.contains(outer[left]).any()


def test_stored_zone_is_the_same(chain, tmp_path):
    np.savez(tmp_path / "zone.npz", **chain.arrays())
    with np.load(tmp_path / "zone.npz") as stored:
        loaded = Zone.from_arrays(dict(stored))
    assert loaded.explain_interval(1) == chain.explain_interval(1)
    assert loaded.violated_share == chain.violated_share


def test_a_background_alone_has_one_combination(tests_of):
    zone = zone_at_share(tests_of([], 1, n_rays=0), ranges(1), 0.005)
    assert not zone.is_empty
    assert zone.sample(3, np.random.default_rng(0)).tolist() == [[0.0]] * 3
    assert zone.contains(np.zeros((2, 1))).all()
    assert zone.volume(np.random.default_rng(0)) == (1.0, 0.0)
