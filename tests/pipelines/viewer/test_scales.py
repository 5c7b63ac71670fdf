import numpy as np
import pytest

from pipelines.viewer.scales import ScaleState, append_own_sample, as_choice, starting_state


@pytest.fixture
def state(toy_zone, toy_ranges) -> ScaleState:
    return ScaleState(np.array([0.0, -0.2, 0.1]), toy_ranges, toy_zone)


def test_an_interval_is_what_the_others_leave(state):
    np.testing.assert_allclose(state.interval(1), (-0.6, 0.2))
    np.testing.assert_allclose(state.interval(2), (-0.3, 0.5))


def test_a_scale_moves_no_further_than_its_interval_and_takes_the_other_intervals_along(state):
    moved = state.with_scale(1, 5.0)
    np.testing.assert_allclose(moved.log_scale, [0.0, 0.2, 0.1])
    np.testing.assert_allclose(moved.interval(2), (0.1, 0.5))
    assert moved.in_zone
    np.testing.assert_allclose(state.log_scale, [0.0, -0.2, 0.1])


def test_a_combination_outside_the_zone_is_called_so(state):
    outside = state.with_all(np.array([0.0, 0.25, -0.4]))
    assert outside.in_zone is False
    np.testing.assert_allclose(outside.interval(1), (-0.6, -0.3))


def test_without_a_zone_the_initial_range_holds(toy_ranges):
    state = starting_state(np.zeros((0, 3)), toy_ranges, None, None)
    np.testing.assert_allclose(state.log_scale, [0.0, 0.0, 0.0])
    assert state.interval(1) == (-0.6, 0.6)
    assert state.in_zone is None
    assert state.score is None
    assert state.assumed_ends(1) == (True, True)


def test_assumed_ends_are_those_of_limits(state):
    assert state.assumed_ends(1) == (True, False)
    assert state.assumed_ends(2) == (True, True)


def test_own_samples_add_up_in_the_form_of_samples_csv(state, tmp_path):
    path = tmp_path / "own.csv"
    assert append_own_sample(path, state, (0, 1, 3)) == 0
    assert append_own_sample(path, state.with_scale(1, 0.0), (0, 1, 3)) == 1
    assert path.read_text().splitlines() == [
        "sample,score,scale_0,scale_1,scale_3",
        f"0,,1,{np.exp(-0.2):.9g},{np.exp(0.1):.9g}",
        f"1,,1,1,{np.exp(0.1):.9g}",
    ]


def test_own_samples_of_other_objects_are_kept_beside(state, tmp_path):
    path = tmp_path / "own.csv"
    append_own_sample(path, state, (0, 1, 2))
    before = path.read_text()
    assert append_own_sample(path, state, (0, 1, 3)) == 0
    assert (tmp_path / "own_old_1.csv").read_text() == before
    assert len(path.read_text().splitlines()) == 2


def test_a_state_can_be_rendered_by_its_text(state, toy_samples):
    from pipelines.choice import choose_scenes

    (chosen,) = choose_scenes(as_choice(state), toy_samples, 2)
    np.testing.assert_allclose(chosen.scale, state.scale, rtol=1e-5)
