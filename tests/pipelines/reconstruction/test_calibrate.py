"""Focal lengths from several sources are weighed by their uncertainties."""

import numpy as np
import pytest

from pipelines.artifacts import Tracks, Video
from pipelines.geometry import focal_from_fov
from pipelines.reconstruction import calibrate
from pipelines.reconstruction.calibrate import ASSUMED_UNCERTAINTY, MOVERS_CAUTION, Focal, find_focal, focal_of_movers, weighed
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


NOBODY = Tracks(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2), np.float32), np.zeros(0, np.uint8))
ASSUMED_PX = focal_from_fov(60.0, 320)


def found_with(monkeypatch, tmp_path, *told: tuple[float, float] | None) -> Focal:
    """The first is what the background tells, the others are the movers'."""
    answers = iter(told)
    monkeypatch.setattr(calibrate, "_calibrated", lambda *_: next(answers))
    centre_px = np.array([160.0, 120.0])
    focal = find_focal(SfmConfig(), NOBODY, Video(tmp_path, 320, 240, 10, 24.0, "x"), centre_px)
    return focal_of_movers(SfmConfig(), [NOBODY] * (len(told) - 1), focal, 320, 10, centre_px) if len(told) > 1 else focal


def test_a_sure_background_is_believed_as_it_is(monkeypatch, tmp_path):
    assert found_with(monkeypatch, tmp_path, (220.0, 0.049)) == Focal(220.0, "self-calibrated", 0.049)


@pytest.mark.parametrize(("uncertainty", "source"), [(0.075, "self-calibrated"), (0.15, "assumed")])
def test_a_background_that_is_less_sure_counts_for_what_it_is_worth(monkeypatch, tmp_path, uncertainty, source):
    focal = found_with(monkeypatch, tmp_path, (220.0, uncertainty))
    weight = np.array([uncertainty, ASSUMED_UNCERTAINTY]) ** -2
    assert focal.source == source
    assert focal.focal_px == pytest.approx(np.exp(weight @ np.log([220.0, ASSUMED_PX]) / weight.sum()))
    assert focal.uncertainty == pytest.approx(weight.sum() ** -0.5)
    assert f"{focal.focal_px:.0f} px" in focal.note


def test_movers_and_background_are_weighed_together(monkeypatch, tmp_path):
    focal = found_with(monkeypatch, tmp_path, (220.0, 0.12), (230.0, 0.12 / MOVERS_CAUTION), None)
    expected = weighed([(ASSUMED_PX, ASSUMED_UNCERTAINTY), (220.0, 0.12), (230.0, 0.12)])
    assert (focal.focal_px, focal.uncertainty) == pytest.approx(expected)
    assert focal.source == "self-calibrated"
    assert focal.note.startswith("the background and the movers tell the focal length")


def test_a_background_that_tells_nothing_leaves_the_assumption(monkeypatch, tmp_path):
    for told in (None, (220.0, float("inf"))):
        focal = found_with(monkeypatch, tmp_path, told)
        assert (focal.focal_px, focal.source) == (pytest.approx(ASSUMED_PX), "assumed")
