import numpy as np
import pytest

from pipelines.evaluation.depth import scale_shift_invariant_error


def test_scale_and_shift_do_not_count():
    true = np.random.default_rng(0).uniform(1, 9, (12, 17))
    assert scale_shift_invariant_error(0.2 * true + 3, true) == pytest.approx(0, abs=1e-12)


def test_a_hand_worked_case():
    # Median 2, mean absolute deviation 2/3 for both; mapped, only the order of the outer two is wrong.
    true, predicted = np.array([[1.0, 2, 3]]), np.array([[30.0, 20, 10]])
    assert scale_shift_invariant_error(predicted, true) == pytest.approx(4 / 3)


def test_only_known_depth_counts():
    true = np.array([[1.0, 2, 3, 0, np.inf, np.nan, 7]])
    predicted = np.array([[1.0, 2, 3, 50, 60, 70, -9]])
    mask = np.array([[True] * 6 + [False]])
    assert scale_shift_invariant_error(predicted, true, mask) == pytest.approx(0, abs=1e-12)


def test_a_constant_prediction_is_the_truths_median():
    true = np.array([[1.0, 2, 6]])
    assert scale_shift_invariant_error(np.full((1, 3), 5.0), true) == pytest.approx((1 + 0 + 4) / 3)


def test_constant_truth():
    true = np.full((2, 2), 4.0)
    assert scale_shift_invariant_error(np.array([[1.0, 2], [3, 4]]), true) == 0


def test_pixels_left_out_are_mapped_to_the_median():
    true = np.array([[1.0, 2, 3, 100]])
    predicted = np.array([[1.0, 2, 3, np.nan]])
    # Of the finite predictions: median 2, deviation 2/3. Of the truth: median 2.5, deviation (1.5 + 0.5 + 0.5 + 97.5) / 4 = 25.
    expected = np.abs(np.array([2.5 - 37.5, 2.5, 2.5 + 37.5, 2.5]) - true).mean()
    assert scale_shift_invariant_error(predicted, true) == pytest.approx(expected)


def test_nothing_to_judge():
    assert np.isnan(scale_shift_invariant_error(np.ones((2, 2)), np.zeros((2, 2))))
    assert scale_shift_invariant_error(np.full((1, 3), np.nan), np.array([[1.0, 2, 6]])) == pytest.approx(5 / 3)


def test_a_prediction_of_nothing_but_nan_is_the_truths_median():
    true = np.array([[1.0, 2.0, 6.0]])
    assert scale_shift_invariant_error(np.full_like(true, np.nan), true) == pytest.approx(5 / 3)
