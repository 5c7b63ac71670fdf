"""Growth from a few frames to all, and the choice among attempts."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.evaluation.poses import pose_error
from pipelines.reconstruction.attempts import Attempt, attempt_all, choose, rotation_difference_deg
from pipelines.reconstruction.bundle import exp_rotation
from pipelines.reconstruction.grow import FINAL, GrowOptions, finish, grow, place_points, register
from pipelines.reconstruction.sightings import Sightings

from .conftest import FOCAL_PX, Toy, make_toy

OPTIONS = GrowOptions(loss_px=0.3, max_error_px=2.0, min_frame_points=8)


def rotation_error_deg(toy: Toy, grown) -> float:
    return pose_error(grown.structure.cam_from_obj, toy.truth.cam_from_obj, grown.registered).rotation_deg


def test_grows_from_the_middle_to_every_frame(toy):
    registered = np.zeros(14, bool)
    registered[5:9] = True
    grown = grow(toy.sightings, toy.truth, registered, OPTIONS)
    assert grown is not None
    assert grown.registered.all()
    assert rotation_error_deg(toy, grown) < 0.15


def test_a_frame_with_wrong_sightings_stays_out(toy):
    table = toy.sightings.xy_px.copy()
    table[13] += np.random.default_rng(0).normal(size=table[13].shape) * 40
    registered = np.ones(14, bool)
    registered[12:] = False
    _, placed = place_points(toy.sightings, toy.truth, registered, 2.0)
    wrong = Sightings(table)
    assert register(wrong, toy.truth, placed, 12, 11, OPTIONS) is not None
    assert register(wrong, toy.truth, placed, 13, 12, OPTIONS) is None


def test_reregisters_after_a_gap_without_a_neighbour(toy):
    registered = np.zeros(14, bool)
    registered[:4] = True
    _, placed = place_points(toy.sightings, toy.truth, np.ones(14, bool), 2.0)
    pose = register(toy.sightings, toy.truth, placed, 11, 3, OPTIONS)
    assert pose is not None
    np.testing.assert_allclose(pose, toy.truth.cam_from_obj[11], atol=0.02)


def test_tracks_that_do_not_fit_are_not_placed(toy):
    table = toy.sightings.xy_px.copy()
    table[:, :10] += np.random.default_rng(1).normal(size=(14, 10, 2)) * 20
    grown = finish(Sightings(table), toy.truth, np.ones(14, bool), OPTIONS, FINAL)
    assert grown is not None
    assert not grown.placed[:10].any()
    assert grown.placed[10:].all()


@pytest.mark.parametrize("turn_deg", [25, 70])
def test_attempts_find_the_motion_and_the_mirror_costs_more(turn_deg):
    toy = make_toy(turn_deg=turn_deg, size=0.35, noise_px=0.03)
    attempts = attempt_all(toy.sightings, FOCAL_PX, OPTIONS, max_windows=3)
    choice = choose(attempts)
    assert choice is not None
    assert rotation_error_deg(toy, choice.best.grown) < 0.5
    assert all(rival.cost > 1.2 * choice.best.cost for rival in choice.finalists[1:])
    assert choice.n_agreeing >= 2


def test_no_attempts_no_choice():
    assert choose([]) is None


def test_difference_of_a_motion_with_itself_is_zero(toy):
    grown = grow(toy.sightings, toy.truth, np.ones(14, bool), OPTIONS)
    assert grown is not None
    assert rotation_difference_deg(grown, grown) < 1e-5
    choice = choose([Attempt(grown, 2.0, "a"), Attempt(grown, 1.0, "b")])
    assert choice is not None
    assert choice.best.origin == "b"
    assert len(choice.finalists) == 1
    assert choice.n_agreeing == 2


def test_finalists_are_other_motions_at_a_similar_cost(toy):
    grown = grow(toy.sightings, toy.truth, np.ones(14, bool), OPTIONS)
    assert grown is not None
    other = replace(grown.structure, cam_from_obj=grown.structure.cam_from_obj.copy())
    other.cam_from_obj[::2, :3, :3] = other.cam_from_obj[::2, :3, :3] @ exp_rotation(np.array([0.0, 0.6, 0.0]))
    turned = replace(grown, structure=other)
    cheap, near, far = Attempt(grown, 1.0, "cheap"), Attempt(turned, 1.2, "near"), Attempt(turned, 1.25, "near, again")
    choice = choose([far, near, cheap, Attempt(turned, 2.0, "dear")])
    assert choice is not None
    assert [attempt.origin for attempt in choice.finalists] == ["cheap", "near"]
    alone = choose([cheap, Attempt(turned, 2.0, "dear")])
    assert alone is not None and len(alone.finalists) == 1


def test_the_best_attempt_beyond_a_gap_is_a_finalist(toy):
    grown = grow(toy.sightings, toy.truth, np.ones(14, bool), OPTIONS)
    assert grown is not None
    early = replace(grown, registered=np.arange(14) < 7)
    late = replace(grown, registered=np.arange(14) >= 6)
    choice = choose([Attempt(early, 1.0, "early"), Attempt(late, 9.0, "late, dear"), Attempt(late, 5.0, "late")])
    assert choice is not None
    assert [attempt.origin for attempt in choice.finalists] == ["early", "late"]
