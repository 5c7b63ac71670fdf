"""Waists of objects' tracks: none, a mover that something hides, and two movers one after the other."""

import numpy as np
import pytest

from pipelines.reconstruction.sightings import Sightings
from pipelines.reconstruction.waist import halves_in_time, waist_of

N_FRAMES = 20


def seen_from_to(spans: list[tuple[int, int]]) -> Sightings:
    """A track per span of frames, both ends included."""
    xy_px = np.full((N_FRAMES, len(spans), 2), np.nan)
    for track, (first, last) in enumerate(spans):
        xy_px[first : last + 1, track] = 1.0
    return Sightings(xy_px)


def test_tracks_that_follow_each_other_have_no_waist():
    starts = np.random.default_rng(0).integers(0, N_FRAMES - 8, 400)
    sightings = seen_from_to([(t, t + 8) for t in starts])
    waist = waist_of(sightings)
    assert not waist.is_narrow and waist.share > 0.5
    assert halves_in_time(sightings) is None


@pytest.mark.parametrize("across", [0, 20])
def test_two_groups_that_few_tracks_connect_are_the_halves(across):
    sightings = seen_from_to([(0, 8)] * 100 + [(7, 19)] * across + [(9, 19)] * 130)
    waist = waist_of(sightings)
    assert waist.frame == 8
    assert waist.share == pytest.approx(across / (100 + across))
    assert halves_in_time(sightings).tolist() == [0] * 100 + [1] * (across + 130)


def test_a_gap_in_which_nothing_is_seen_is_a_waist():
    sightings = seen_from_to([(0, 6)] * 80 + [(12, 19)] * 80)
    assert waist_of(sightings).share == 0
    assert halves_in_time(sightings).tolist() == [0] * 80 + [1] * 80


def test_few_tracks_have_no_waist():
    assert halves_in_time(seen_from_to([(0, 8)] * 50 + [(9, 19)] * 130)) is None
