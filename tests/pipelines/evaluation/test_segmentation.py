import numpy as np
import pytest
import torch

from pipelines.evaluation.segmentation import match_objects, mean_iou, overlap, panoptic_quality, relabelled


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    """Blocks of four labels, and the same with a tenth of the pixels wrong."""
    rng = np.random.default_rng(0)
    true = np.kron(rng.integers(0, 4, (3, 6, 6)), np.ones((1, 5, 5), int)).astype(np.uint8)
    predicted = np.where(rng.uniform(size=true.shape) < 0.3, rng.integers(0, 4, true.shape), true).astype(np.uint8)
    return predicted, true


def test_mean_iou_agrees_with_torchmetrics(maps, torchmetrics):
    classification = torchmetrics.classification
    predicted, true = (torch.from_numpy(m.astype(int)) for m in maps)
    expected = classification.multiclass_jaccard_index(predicted, true, num_classes=4, average="macro")
    assert mean_iou(overlap(*maps, 4)) == pytest.approx(float(expected), abs=1e-6)


def test_panoptic_quality_agrees_with_torchmetrics(maps, torchmetrics):
    detection = torchmetrics.detection
    predicted, true = maps
    predicted = predicted.copy()
    predicted[0][predicted[0] == 2] = 1  # a segment that is missed
    as_segments = [torch.from_numpy(np.stack([m, np.zeros_like(m)], -1).astype(int)) for m in (predicted, true)]
    expected = detection.panoptic_quality(*as_segments, things=set(), stuffs={0, 1, 2, 3})
    images = [overlap(p, q, 4) for p, q in zip(predicted, true, strict=True)]
    assert panoptic_quality(images) == pytest.approx(float(expected), abs=1e-6)


def test_hand_worked_overlap():
    true = np.array([[0, 0, 1, 1, 255]], np.uint8)
    predicted = np.array([[0, 1, 1, 255, 1]], np.uint8)
    counted = overlap(predicted, true, 2)
    # Background: 1 of 2; object: 1 common of 3 (the unknown prediction is a miss, the unknown truth is not judged).
    assert mean_iou(counted) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert panoptic_quality([counted]) == 0  # no IoU is above one half


def test_masks_restrict_what_is_judged(maps):
    predicted, true = maps
    mask = np.zeros(true.shape, bool)
    mask[:, :10] = True
    assert mean_iou(overlap(predicted, true, 4, mask)) == mean_iou(overlap(predicted[:, :10], true[:, :10], 4))


def test_perfect_and_empty():
    labels = np.array([[0, 1], [2, 2]], np.uint8)
    assert mean_iou(overlap(labels, labels, 5)) == 1
    assert panoptic_quality([overlap(labels, labels, 5)]) == 1
    unknown = np.full((2, 2), 255, np.uint8)
    assert np.isnan(mean_iou(overlap(labels, unknown, 5)))
    assert np.isnan(panoptic_quality([]))


def test_an_empty_mask_and_an_unknown_truth_judge_nothing(maps):
    predicted, true = maps
    for counted in (
        overlap(predicted, true, 4, np.zeros(true.shape, bool)),
        overlap(predicted, np.full(true.shape, 255, np.uint8), 4),
    ):
        assert counted.both.sum() == 0
        assert np.isnan(mean_iou(counted)) and np.isnan(panoptic_quality([counted]))


def test_an_unknown_prediction_is_wrong(maps):
    _, true = maps
    assert mean_iou(overlap(np.full(true.shape, 255, np.uint8), true, 4)) == 0


def test_objects_are_found_whatever_their_number():
    true = np.zeros((2, 6, 6), np.uint8)
    true[:, :3, :3], true[:, 4:, 4:] = 1, 2
    predicted = np.zeros_like(true)
    predicted[:, :3, :3], predicted[:, 4:, 4:], predicted[:, 0, 5] = 3, 1, 2
    true_of = match_objects(predicted, true)
    assert true_of == {0: 0, 3: 1, 1: 2}
    matched = relabelled(predicted, true_of, 3)
    assert set(np.unique(matched)) == {0, 1, 2, 3 + 2}, "an object without a counterpart is none of the true ones"
    assert mean_iou(overlap(matched, np.where(predicted == 2, 255, true).astype(np.uint8), 3)) == 1


def test_a_few_shared_pixels_make_no_counterpart():
    true, predicted = np.zeros((2, 20, 20), np.uint8), np.zeros((2, 20, 20), np.uint8)
    true[:, :10, :10], predicted[:, 9:, 9:] = 1, 1
    assert match_objects(predicted, true) == {0: 0}
