import numpy as np
import pytest

from pipelines.scene.orders import order_tests

INF = np.inf


def test_bounds_by_hand(evidence_of):
    tests = order_tests(evidence_of([[8.0, 2.0, INF], [9.0, 4.0, 3.0], [1.0, INF, 5.0]], column=[1, 2, 0]))
    rows = list(zip(tests.ray.tolist(), tests.front.tolist(), tests.back.tolist(), np.exp(tests.bound), strict=True))
    expected = [(0, 1, 0, 4.0), (1, 2, 0, 3.0), (1, 2, 1, 4 / 3), (2, 0, 2, 5.0)]
    assert [row[:3] for row in rows] == [row[:3] for row in expected]
    assert [row[3] for row in rows] == pytest.approx([row[3] for row in expected], rel=1e-6)
    assert tests.n_rays == 3


def test_incredible_depths_set_no_test_and_unobserved_ones_are_guesses(evidence_of):
    evidence = evidence_of([[8.0, 2.0, INF], [9.0, 4.0, 3.0]], column=[1, 2])
    evidence.observed[:, 0] = False
    tests = order_tests(evidence)
    assert tests.ray.tolist() == [0, 1, 1] and tests.back.tolist() == [0, 0, 1]
    assert tests.guessed.tolist() == [True, True, False]
    evidence.credible[:, 0] = False
    tests = order_tests(evidence)
    assert tests.ray.tolist() == [0] and tests.back.tolist() == [1]
    assert tests.ray_frame.tolist() == [1]
    assert tests.ray_xy_px.tolist() == [[1.5, 2.5]]


def test_a_label_whose_own_object_is_missed_is_hopeless(evidence_of):
    tests = order_tests(evidence_of([[8.0, INF, 3.0]], column=[1]))
    assert (tests.n_rays, tests.n_hopeless) == (0, 1)


def heaviest(order: list[int], opacity: np.ndarray) -> int:
    """Label of a ray by compositing its objects front to back, the slow way."""
    weights, left = np.zeros(len(opacity)), 1.0
    for k in order:
        weights[k] = left * opacity[k]
        left *= 1 - opacity[k]
    return int(weights.argmax())


def test_semi_transparent_pairs_agree_with_compositing(evidence_of):
    generator = np.random.default_rng(0)
    opacity = generator.uniform(0.05, 1.0, (500, 2))
    tests = order_tests(evidence_of(np.ones((500, 2)).tolist(), column=[0] * 500, opacity=opacity))
    tested = dict.fromkeys(tests.ray_frame.tolist())
    for ray in range(500):
        wins_in_front = heaviest([0, 1], opacity[ray]) == 0
        wins_behind = heaviest([1, 0], opacity[ray]) == 0
        # A ray is tested exactly when the order decides who is seen.
        assert (ray in tested) == (wins_in_front and not wins_behind)
    assert 0 < tests.n_hopeless < 500
