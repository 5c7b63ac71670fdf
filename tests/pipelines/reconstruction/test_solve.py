"""The verdict on a reconstruction, from its figures."""

import pytest

from pipelines.artifacts import SfmStatus
from pipelines.reconstruction.solve import _verdict
from pipelines.sfm import SfmConfig

from .conftest import make_toy
from .test_judge import solved

GOOD = {
    "expected_rotation_error_deg": 0.2,
    "halves_difference_deg": 0.3,
    "rival_ratio": 2.0,
    "attempts": 4.0,
    "attempts_agreeing": 2.0,
    "placed_share": 0.99,
}


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({}, SfmStatus.OK, ""),
        ({"expected_rotation_error_deg": 3.0}, SfmStatus.DOUBTFUL, "uncertain by about 3.0 deg"),
        ({"expected_rotation_error_deg": 9.0}, SfmStatus.UNRELIABLE, "uncertain by about 9.0 deg"),
        ({"halves_difference_deg": 5.0}, SfmStatus.DOUBTFUL, "two halves"),
        ({"placed_share": 0.5}, SfmStatus.DOUBTFUL, "explains only 50 %"),
        ({"rival_ratio": 1.01}, SfmStatus.DOUBTFUL, "another motion"),
        ({"attempts_agreeing": 1.0, "rival_ratio": 1.1}, SfmStatus.DOUBTFUL, "no two of 4 attempts"),
        ({"attempts_agreeing": 1.0}, SfmStatus.OK, ""),
        ({"attempts_agreeing": 1.0, "rival_ratio": 1.1, "attempts": 2.0}, SfmStatus.OK, ""),
    ],
)
def test_every_figure_can_cast_doubt(changed, status, said):
    toy = make_toy()
    found, reason = _verdict(SfmConfig(), toy.sightings, solved(toy), GOOD | changed)
    assert found is status
    assert said in reason and bool(said) == bool(reason)
