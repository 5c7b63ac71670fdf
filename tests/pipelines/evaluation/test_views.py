"""Scores of one rendered view: what counts for which measure."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from pipelines.evaluation.views import TrueView, compare_view, summarised


@dataclass(frozen=True)
class Rendered:
    rgb: np.ndarray
    depth: np.ndarray
    label: np.ndarray

    @property
    def opacity(self) -> np.ndarray:
        return np.ones(self.label.shape)


@pytest.fixture
def true() -> TrueView:
    rng = np.random.default_rng(0)
    label = np.zeros((24, 32), np.uint8)
    label[4:12, 4:12] = 1
    depth = rng.uniform(1, 5, label.shape)
    rgb = rng.random((*label.shape, 3)).astype(np.float32)
    return TrueView(0, np.eye(4), np.eye(3), rgb, depth, label, None, n_labels=2)


def as_true(true: TrueView) -> Rendered:
    return Rendered(true.rgb, true.depth, true.label)


def test_invented_objects_cost_panoptic_quality(true):
    invented = true.label.copy()
    invented[16:20, 4:10], invented[16:20, 20:26] = 2, 3
    score = summarised([compare_view(replace(as_true(true), label=invented), true, {0: 0, 1: 1})])
    exact = summarised([compare_view(as_true(true), true, {0: 0, 1: 1})])
    assert exact["pq"] == exact["miou"] == 1
    # Two right segments; each invention is a class of its own, of quality 0.
    assert score["pq"] == pytest.approx((1 + (1 - 48 / (24 * 32 - 64))) / 4, abs=1e-6)
    assert score["miou"] == pytest.approx((1 + (1 - 48 / (24 * 32 - 64))) / 2, abs=1e-6)


def test_holes_are_not_depths(true):
    """Where nothing is rendered depth is 0, which says nothing about the depth of the rest."""
    holes = true.depth.copy()
    holes[:6] = 0
    unknown = np.where(holes > 0, holes, np.nan)
    found = [compare_view(replace(as_true(true), depth=depth), true, {0: 0, 1: 1}).ssimae for depth in (holes, unknown)]
    assert found[0] == found[1] < 0.5


def test_a_network_sees_the_truth_where_nothing_is_judged(true):
    mask = np.zeros(true.label.shape, bool)
    mask[:, :16] = True
    wrong = true.rgb.copy()
    wrong[:, 16:] = 0
    seen = compare_view(
        replace(as_true(true), rgb=wrong), replace(true, mask=mask), {0: 0, 1: 1}, lambda a, b: np.abs(a - b).sum()
    )
    assert seen.lpips == 0


def test_a_mask_holds_at_another_size(true):
    mask = np.zeros((48, 64), bool)
    mask[:, :32] = True
    large = TrueView(0, np.eye(4), np.eye(3), np.zeros((48, 64, 3), np.float32), None, None, mask)
    small = true.judged_as(large)
    assert small.mask is not None and small.mask.shape == (24, 32)
    assert small.mask[:, :16].all() and not small.mask[:, 16:].any()
    assert true.judged_as(true).mask is None
