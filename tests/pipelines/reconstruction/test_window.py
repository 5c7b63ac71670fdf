"""Factorisation: a shape and its mirror twin, near the truth for a small, far object."""

import numpy as np

from pipelines.evaluation.poses import pose_error
from pipelines.reconstruction.window import candidate_windows, factorise

from .conftest import FOCAL_PX, make_toy


def test_one_of_the_twins_is_right_and_the_other_its_mirror():
    toy = make_toy(turn_deg=40, size=0.2, noise_px=0.0)
    window = candidate_windows(toy.sightings, FOCAL_PX, count=1)[0]
    registered = np.zeros(14, bool)
    registered[window.frames] = True
    twins = factorise(toy.sightings, window, FOCAL_PX)
    errors = [pose_error(twin.cam_from_obj, toy.truth.cam_from_obj, registered).rotation_deg for twin in twins]
    assert min(errors) < 3
    assert max(errors) > 5


def test_windows_hold_complete_tracks(toy):
    for window in candidate_windows(toy.sightings, FOCAL_PX, count=3):
        assert toy.sightings.seen[np.ix_(window.frames, window.tracks)].all()
        assert window.relief_px > 0


def test_depth_of_the_centroid_is_near_one():
    toy = make_toy(turn_deg=40, size=0.2)
    window = candidate_windows(toy.sightings, FOCAL_PX, count=1)[0]
    depth = factorise(toy.sightings, window, FOCAL_PX)[0].cam_from_obj[window.frames, 2, 3]
    assert 0.9 < np.median(depth) < 1.1


def test_no_window_without_common_tracks():
    toy = make_toy(n_points=5)
    assert candidate_windows(toy.sightings, FOCAL_PX, count=3) == []
