import numpy as np
import pytest

from pipelines.errors import InputError
from pipelines.evaluation import valid_set
from pipelines.ground_truth import GroundTruth


@pytest.fixture
def rays() -> tuple[np.ndarray, np.ndarray]:
    """Three objects along fifty rays; some are missed. The label is the nearest one, except for five rays."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 4, (50, 3))
    depth[:, 1:][rng.uniform(size=(50, 2)) < 0.3] = np.inf
    labels = depth.argmin(1)
    labels[:5] = (labels[:5] + 1) % 3
    return depth, labels


def slow_agreement(depth: np.ndarray, labels: np.ndarray, scale: np.ndarray) -> float:
    right = total = 0
    for row, label in zip(depth, labels, strict=True):
        if np.isfinite(row).sum() >= 2:
            total += 1
            right += int(np.argmin(row * scale)) == label
    return right / total


def test_agreement_is_that_of_a_slow_reference(rays):
    scales = np.exp(valid_set.draw_log_scales(20, 3, np.random.default_rng(1)))
    expected = [slow_agreement(*rays, scale) for scale in scales]
    np.testing.assert_allclose(valid_set.true_agreement(*rays, scales), expected)


def test_zero_depth_means_not_hit(rays):
    depth, labels = rays
    scales = np.ones((1, 3))
    zeroed = np.where(np.isfinite(depth), depth, 0)
    np.testing.assert_array_equal(
        valid_set.true_agreement(zeroed, labels, scales), valid_set.true_agreement(depth, labels, scales)
    )


def test_one_occlusion_bounds_the_scale():
    # Object 1 at depth 2 hides the background at depth 3: it is valid up to a scale of 1.5.
    depth, labels = np.array([[3.0, 2.0]]), np.array([1])
    scales = np.array([[1, 0.1], [1, 1.49], [1, 1.51]])
    agreement = valid_set.true_agreement(depth, labels, scales)
    assert valid_set.is_valid(agreement).tolist() == [True, True, False]


def test_rays_that_tell_nothing_leave_everything_valid():
    depth = np.array([[3.0, np.inf]])
    assert valid_set.true_agreement(depth, np.array([0]), np.ones((4, 2))).tolist() == [1, 1, 1, 1]


def test_drawn_combinations_are_log_uniform_around_the_truth():
    drawn = valid_set.draw_log_scales(20_000, 3, np.random.default_rng(0))
    assert np.all(drawn[:, 0] == 0)
    assert drawn[:, 1:].min() >= -0.6 and drawn[:, 1:].max() <= 0.4
    np.testing.assert_allclose(drawn[:, 1:].mean(0), -0.1, atol=0.01)


def test_precision_recall_and_iou():
    learned = np.array([True, True, True, False, False])
    true = np.array([True, False, True, True, False])
    score = valid_set.score_set(learned, true)
    assert (score.precision, score.recall, score.iou) == pytest.approx((2 / 3, 2 / 3, 2 / 4))
    nothing = valid_set.score_set(np.zeros(3, bool), np.zeros(3, bool))
    assert np.isnan([nothing.precision, nothing.recall, nothing.iou]).all()


def test_membership_is_asked_in_the_scenes_own_units():
    """A set that knows the exact bound, in units in which the true scale is 5, is perfect."""
    rays = valid_set.TellingRays(np.array([[3.0, 2.0]], np.float32), np.array([1]))
    truth = np.log([1.0, 5.0])
    scores = valid_set.score_memberships(
        {"all": lambda x: x[:, 1] - truth[1] < np.log(1.5), "half": lambda x: x[:, 1] - truth[1] < -0.1},
        rays,
        truth,
        n=4000,
        generator=np.random.default_rng(0),
    )
    score, half = scores["all"], scores["half"]
    # The bound log 1.5 = 0.405 lies outside the drawn range, so everything is valid.
    assert (score.precision, score.recall, score.true_share) == (1, 1, 1)
    assert half.recall == pytest.approx(0.5, abs=0.03) and half.precision == 1


def test_the_playroom_has_true_combinations(playroom):
    truth = GroundTruth.load(playroom)
    rays = valid_set.telling_rays(truth, max_rays=20_000)
    assert rays.depth_alone.shape == (20_000, 4)
    at_truth = valid_set.true_agreement(rays.depth_alone, rays.labels, np.ones((1, 4)))
    assert at_truth[0] > 0.999
    drawn = valid_set.draw_log_scales(500, 4, np.random.default_rng(0))
    share = valid_set.is_valid(valid_set.true_agreement(rays.depth_alone, rays.labels, np.exp(drawn))).mean()
    assert 0.005 < share < 0.9


def test_truth_without_depths_alone_is_refused(tmp_path):
    eye = np.tile(np.eye(4), (1, 1, 1))
    truth = GroundTruth(tmp_path, np.eye(3), 4, 3, 12.0, eye, eye, np.zeros(1, int))
    with pytest.raises(InputError, match="no depth of each object alone"):
        valid_set.telling_rays(truth)
