"""Which scenes a text names."""

import dataclasses

import numpy as np
import pytest

from pipelines.choice import choose_scenes
from pipelines.errors import ReconstructionError, UsageError


def test_every_form(toy_samples):
    assert [c.index for c in choose_scenes("best", toy_samples, 2)] == [3]
    assert [c.index for c in choose_scenes("2", toy_samples, 2)] == [2]
    assert [c.index for c in choose_scenes("4, 0", toy_samples, 2)] == [4, 0]
    assert [c.index for c in choose_scenes("3,1,03", toy_samples, 2)] == [3, 1]
    assert [c.index for c in choose_scenes("diverse:2", toy_samples, 2)] == [0, 1]
    assert [c.index for c in choose_scenes("diverse:99", toy_samples, 2)] == [0, 1, 2, 3, 4]
    (own,) = choose_scenes("scales:0.5,2", toy_samples, 2)
    assert own.index is None and own.scale.tolist() == [1.0, 0.5, 2.0]
    chosen = choose_scenes("1", toy_samples, 2)[0]
    assert chosen.name == "sample_0001" and chosen.score == 0.8
    assert np.allclose(chosen.scale, np.exp([0.0, -0.3, 0.1]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worst", "is not understood"),
        ("5", "sample 5 does not exist, expected 0 to 4"),
        ("-1", "does not exist"),
        ("diverse:0", "at least 1"),
        ("diverse:x", "is not understood"),
        ("scales:1", "expected 2 positive numbers"),
        ("scales:1,-1", "expected 2 positive numbers"),
        ("scales:1,nan", "expected 2 positive numbers"),
        ("scales:a,b", "are not numbers"),
    ],
)
def test_texts_that_name_nothing(toy_samples, text, message):
    with pytest.raises(UsageError, match=message):
        choose_scenes(text, toy_samples, 2)


def test_without_samples_only_own_scales_work(toy_samples):
    empty = dataclasses.replace(toy_samples, log_scale=np.zeros((0, 3)), score=np.zeros(0))
    with pytest.raises(ReconstructionError, match="no sampled scenes"):
        choose_scenes("best", empty, 2)
    assert len(choose_scenes("scales:1,1", empty, 2)) == 1
