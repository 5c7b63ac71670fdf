"""The verdict on a reconstruction, from its figures."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.artifacts import SfmStatus
from pipelines.reconstruction.bundle import exp_rotation, reproject
from pipelines.reconstruction.solve import _verdict, compared
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
    ],
)
def test_every_figure_can_cast_doubt(changed, status, said):
    toy = make_toy()
    found, reason = _verdict(SfmConfig(), toy.sightings, solved(toy), GOOD | changed)
    assert found is status
    assert said in reason and bool(said) == bool(reason)


def test_the_likelier_motion_wins_on_all_tracks():
    toy = make_toy(noise_px=0.1)
    right = solved(toy)
    poses = toy.truth.cam_from_obj.copy()
    wrong_turn = exp_rotation(np.linspace(-0.4, 0.4, len(poses))[:, None] * np.array([1.0, 0.0, 0.0]))
    poses[:, :3, :3] = wrong_turn @ poses[:, :3, :3]
    observed = toy.sightings.observations(right.registered, right.placed)
    structure = replace(right.structure, cam_from_obj=poses)
    wrong = replace(right, structure=structure, adjusted=replace(right.adjusted, residual_px=reproject(structure, observed)[0]))
    winner, evidence = compared([wrong, right], toy.sightings, OPTIONS)
    assert winner == 1
    # 14 frames of up to 80 tracks, errors of many px: far beyond doubt, even though only one sighting in 60 counts.
    assert 100 < evidence < np.inf


def test_without_another_motion_nothing_is_in_doubt():
    right = solved(make_toy())
    winner, evidence = compared([right, right], make_toy().sightings, OPTIONS)
    assert winner == 0
    assert evidence == np.inf
