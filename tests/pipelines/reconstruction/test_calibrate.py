"""Focal lengths from several sources are weighed by their uncertainties."""

import numpy as np
import pytest

from pipelines.artifacts import Tracks
from pipelines.reconstruction.calibrate import ASSUMED_UNCERTAINTY, Focal, focal_of_movers, weighed
from pipelines.sfm import SfmConfig


def test_equal_measurements_meet_in_the_middle_of_their_logarithms():
    focal_px, uncertainty = weighed([(200.0, 0.1), (220.0, 0.1)])
    assert focal_px == pytest.approx(np.sqrt(200 * 220))
    assert uncertainty == pytest.approx(0.1 / np.sqrt(2))


def test_the_surer_one_counts_more():
    focal_px, _ = weighed([(200.0, 0.02), (220.0, 0.1)])
    assert focal_px == pytest.approx(np.exp((25 * np.log(200) + np.log(220)) / 26))


def test_what_contradicts_the_surest_is_left_out():
    assert weighed([(200.0, 0.02), (60.0, 0.2), (205.0, 0.02)]) == weighed([(200.0, 0.02), (205.0, 0.02)])


def test_movers_without_tracks_leave_the_assumption():
    assumed = Focal(277.0, "assumed", ASSUMED_UNCERTAINTY, "assumed")
    none = Tracks(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2), np.float32), np.zeros(0, np.uint8))
    assert focal_of_movers(SfmConfig(), [none], assumed, 320, 10, np.array([160.0, 120.0])) is assumed
