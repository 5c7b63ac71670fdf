import numpy as np
import pytest

from pipelines.evaluation import protocol


def test_distance_is_over_the_objects_that_are_known():
    log_scale = np.array([[0, 3.0, 9.0], [0, 0.0, 1.0]])
    np.testing.assert_allclose(protocol.scale_distance(log_scale, np.array([0, -1.0, np.nan])), [4, 1])
    unknown = protocol.scale_distance(log_scale, np.array([0, np.nan, np.nan]))
    assert np.isnan(unknown).all(), "the background's scale is 1 for all: no distance, not the distance 0"
    assert protocol.scale_distance(np.zeros((2, 1)), np.zeros(1)).tolist() == [0, 0]


def test_the_closest_and_some_of_the_next_are_rendered():
    distance = np.arange(100, 0, -1.0)  # the last sample is the closest
    chosen = protocol.candidates(distance, 5, 5, 10, np.random.default_rng(0))
    assert chosen[:5].tolist() == [99, 98, 97, 96, 95]
    assert len(set(chosen.tolist())) == 10
    assert set(chosen[5:].tolist()) <= set(range(85, 95))


def test_fewer_samples_than_asked_for():
    assert protocol.candidates(np.array([2.0, 1.0]), 5, 5, 10, np.random.default_rng(0)).tolist() == [1, 0]
    assert protocol.candidates(np.zeros(0), 5, 5, 10, np.random.default_rng(0)).tolist() == []


def test_mean_and_deviation_over_truths():
    summary = protocol.mean_and_deviation([{"psnr_db": 20.0, "lpips": float("nan")}, {"psnr_db": 22.0, "lpips": float("nan")}])
    assert summary["psnr_db"] == {"mean": 21.0, "deviation": pytest.approx(np.sqrt(2)), "n": 2}
    assert np.isnan(summary["lpips"]["mean"]) and summary["lpips"]["n"] == 0
    assert protocol.mean_and_deviation([]) == {}


def test_what_no_truth_defines_has_no_mean():
    found = protocol.mean_and_deviation(
        [{"lpips": float("nan"), "psnr_db": 20.0}, {"lpips": float("nan"), "psnr_db": float("inf")}]
    )
    assert np.isnan(found["lpips"]["mean"]) and found["lpips"]["n"] == 0
    assert found["psnr_db"]["mean"] == 20.0 and np.isnan(found["psnr_db"]["deviation"]) and found["psnr_db"]["n"] == 1
    assert protocol.mean_and_deviation([]) == {}


def test_the_best_is_best_by_all_measures():
    sharp = {"psnr_db": 25.0, "ssimae": 0.5, "miou": 0.6}
    right = {"psnr_db": 24.9, "ssimae": 0.1, "miou": 0.9}
    poor = {"psnr_db": 20.0, "ssimae": 0.6, "miou": 0.5}
    assert protocol.best([sharp, right, poor]) == 1
    assert protocol.best([poor, right, right]) == 1, "of equals the first"


def test_measures_that_are_not_defined_for_all_do_not_count():
    assert protocol.best([{"psnr_db": 25.0, "ssimae": np.nan}, {"psnr_db": 24.0, "ssimae": 0.1}]) == 0
    assert protocol.best([{"psnr_db": np.nan}, {"psnr_db": 24.0}]) == 0
