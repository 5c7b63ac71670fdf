"""The verdict's figures: they grow with noise and shrink with turn."""

import numpy as np
import pytest

from pipelines.evaluation.poses import pose_error
from pipelines.reconstruction.grow import FINAL, Grown, GrowOptions, finish
from pipelines.reconstruction.judge import halves_difference_deg, predicted_rotation_error_deg

from .conftest import Toy, make_toy

OPTIONS = GrowOptions(loss_px=0.5, max_error_px=3.0, min_frame_points=8)


def solved(toy: Toy) -> Grown:
    grown = finish(toy.sightings, toy.truth, np.ones(toy.sightings.n_frames, bool), OPTIONS, FINAL)
    assert grown is not None
    return grown


def test_prediction_matches_the_error_of_independent_noise():
    errors, predicted = [], []
    for seed in range(6):
        toy = make_toy(turn_deg=25, size=0.3, noise_px=0.1, seed=seed)
        grown = solved(toy)
        errors.append(pose_error(grown.structure.cam_from_obj, toy.truth.cam_from_obj).rotation_deg)
        predicted.append(predicted_rotation_error_deg(grown.adjusted, correlated_sightings=1.0))
    assert np.mean(predicted) == pytest.approx(np.mean(errors), rel=0.6)


def test_less_turn_is_less_certain():
    little = predicted_rotation_error_deg(solved(make_toy(turn_deg=10, size=0.3)).adjusted, 1.0)
    much = predicted_rotation_error_deg(solved(make_toy(turn_deg=60, size=0.3)).adjusted, 1.0)
    assert little > 2 * much


def test_halves_of_good_tracks_agree():
    toy = make_toy(noise_px=0.03)
    assert halves_difference_deg(toy.sightings, solved(toy), OPTIONS) < 0.5


def test_too_few_points_for_halves():
    toy = make_toy(n_points=9)
    assert halves_difference_deg(toy.sightings, solved(toy), OPTIONS) == np.inf
