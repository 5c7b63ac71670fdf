"""The verdict on a reconstruction, from its figures."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.artifacts import SfmStatus
from pipelines.reconstruction.attempts import total_cost
from pipelines.reconstruction.bundle import exp_rotation, reproject
from pipelines.reconstruction.sightings import Sightings
from pipelines.reconstruction.solve import Candidate, _verdict, compared
from pipelines.sfm import SfmConfig

from .conftest import make_toy
from .test_judge import OPTIONS, solved

GOOD = {
    "expected_rotation_error_deg": 0.2,
    "halves_difference_deg": 0.3,
    "rival_evidence": 50.0,
    "attempts": 4.0,
    "attempts_agreeing": 2.0,
    "placed_share": 0.99,
    "bridged_frames": 0.0,
    "waist_share": 0.9,
    "waist_frame": 6.0,
}


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({}, SfmStatus.OK, ""),
        ({"expected_rotation_error_deg": 3.0}, SfmStatus.DOUBTFUL, "uncertain by about 3.0 deg"),
        ({"expected_rotation_error_deg": 9.0}, SfmStatus.UNRELIABLE, "uncertain by about 9.0 deg"),
        ({"halves_difference_deg": 5.0}, SfmStatus.DOUBTFUL, "two halves"),
        ({"placed_share": 0.5}, SfmStatus.DOUBTFUL, "explains only 50 %"),
        ({"rival_evidence": 3.0}, SfmStatus.DOUBTFUL, "another motion explains its tracks almost as well"),
        ({"rival_evidence": 0.0}, SfmStatus.DOUBTFUL, "lower by 0.0"),
        ({"bridged_frames": 7.0}, SfmStatus.DOUBTFUL, "ties 7 of its frames"),
        ({"bridged_frames": 3.0}, SfmStatus.OK, ""),
        ({"waist_share": 0.2}, SfmStatus.DOUBTFUL, "few of its tracks reach beyond frame 6"),
        ({"waist_share": 0.2, "rival_evidence": 400.0}, SfmStatus.OK, ""),
    ],
)
def test_every_figure_can_cast_doubt(changed, status, said):
    toy = make_toy()
    found, reason = _verdict(SfmConfig(), toy.sightings, solved(toy), GOOD | changed)
    assert found is status
    assert said in reason and bool(said) == bool(reason)


def candidates_of(toy, *grown):
    return [Candidate(each, toy.sightings, 0) for each in grown]


def test_the_likelier_motion_wins_on_all_tracks():
    toy = make_toy(noise_px=0.1)
    right = solved(toy)
    poses = toy.truth.cam_from_obj.copy()
    wrong_turn = exp_rotation(np.linspace(-0.4, 0.4, len(poses))[:, None] * np.array([1.0, 0.0, 0.0]))
    poses[:, :3, :3] = wrong_turn @ poses[:, :3, :3]
    observed = toy.sightings.observations(right.registered, right.placed)
    structure = replace(right.structure, cam_from_obj=poses)
    wrong = replace(right, structure=structure, adjusted=replace(right.adjusted, residual_px=reproject(structure, observed)[0]))
    winner, evidence = compared(candidates_of(toy, wrong, right), OPTIONS)
    assert winner == 1
    # 14 frames of up to 80 tracks, errors of many px: far beyond doubt, even though only one sighting in 60 counts.
    assert 100 < evidence < np.inf


def test_a_few_frames_more_do_not_make_up_for_a_worse_fit():
    """A wrong motion of all frames explains more sightings than the right one without the last two, but worse ones."""
    toy = make_toy(noise_px=0.1)
    whole = solved(toy)
    poses = toy.truth.cam_from_obj.copy()
    turn = exp_rotation(np.linspace(-0.2, 0.2, len(poses))[:, None] * np.array([0.0, 0.0, 1.0]))
    shown = toy.truth.points[whole.placed].mean(0)
    centre = poses[:, :3, :3] @ shown + poses[:, :3, 3]
    poses[:, :3, :3] = turn @ poses[:, :3, :3]
    poses[:, :3, 3] = centre - poses[:, :3, :3] @ shown
    observed = toy.sightings.observations(whole.registered, whole.placed)
    structure = replace(whole.structure, cam_from_obj=poses)
    wrong = replace(whole, structure=structure, adjusted=replace(whole.adjusted, residual_px=reproject(structure, observed)[0]))
    shorter = replace(whole, registered=whole.registered & (np.arange(len(poses)) < len(poses) - 2))
    loose = replace(OPTIONS, loss_px=20.0, max_error_px=1e4)
    assert total_cost(wrong, toy.sightings, loose) < total_cost(shorter, toy.sightings, loose)
    for candidates, right in (([wrong, shorter], 1), ([shorter, wrong], 0)):
        winner, evidence = compared(candidates_of(toy, *candidates), loose)
        assert winner == right and evidence > 10


def test_two_parts_that_nothing_ties_do_not_win_by_their_freedom():
    """Half of the tracks are seen early, the others late, so any turn between the halves fits them; found patches tell."""
    toy = make_toy(noise_px=0.1)
    frames, tracks = np.arange(toy.sightings.n_frames), np.arange(toy.sightings.n_tracks)
    untied = (frames < 7)[:, None] == (tracks < 40)
    cut = Sightings(np.where(untied[..., None], toy.sightings.xy_px, np.nan))
    right = solved(toy)
    turn = exp_rotation(np.array([[0.0, 0.5, 0.0]]))[0]
    poses, points = right.structure.cam_from_obj.copy(), right.structure.points.copy()
    poses[7:, :3, :3] = poses[7:, :3, :3] @ turn
    points[40:] = points[40:] @ turn
    parted = replace(right, structure=replace(right.structure, cam_from_obj=poses, points=points))
    assert total_cost(parted, cut, OPTIONS) == pytest.approx(total_cost(right, cut, OPTIONS))
    winner, evidence = compared([Candidate(parted, cut, 7), Candidate(right, toy.sightings, 0)], OPTIONS)
    assert winner == 1 and evidence > 100


def test_without_another_motion_nothing_is_in_doubt():
    toy = make_toy()
    winner, evidence = compared(candidates_of(toy, solved(toy), solved(toy)), OPTIONS)
    assert winner == 0
    assert evidence == np.inf
