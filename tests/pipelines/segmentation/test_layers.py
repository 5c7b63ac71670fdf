import numpy as np

from pipelines.segmentation.dense import without_islands
from pipelines.segmentation.edge_filter import GuidedFilter
from pipelines.segmentation.layers import flow_confidence, layer_motion, photometric_cost

HEIGHT, WIDTH = 60, 80


def test_an_affine_motion_is_continued_beyond_the_objects_edge() -> None:
    x, y = np.meshgrid(np.arange(WIDTH, dtype=float), np.arange(HEIGHT, dtype=float))
    flow_px = np.stack([2 + 0.02 * x, -1 + 0.01 * y], -1)
    weight = np.zeros((HEIGHT, WIDTH))
    weight[20:40, 20:60] = 1
    wrong = np.where(weight[..., None] > 0, flow_px, 9.0)
    layer = layer_motion(wrong, weight, sigma_px=8.0)
    near = np.s_[16:44, 16:64]
    np.testing.assert_allclose(layer.flow_px[near], flow_px[near], atol=0.06)
    assert layer.support[30, 40] > 0.5 > 0.05 > layer.support[2, 2]


def test_where_nothing_of_an_object_is_near_it_moves_as_the_rest_of_it() -> None:
    flow_px = np.full((HEIGHT, 200, 2), (4.0, -2.0))
    weight = np.zeros((HEIGHT, 200))
    weight[:, :40] = 1
    layer = layer_motion(np.where(weight[..., None] > 0, flow_px, 0.0), weight, sigma_px=4.0)
    np.testing.assert_allclose(layer.flow_px, flow_px, atol=0.05)
    assert layer.support[30, 190] == 0


def test_flow_is_believed_where_texture_changes_in_both_directions() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    image[:, 20:40] = 120 + 60 * (np.arange(20) % 4 < 2)[None, :, None]  # stripes
    image[:, 50:] = np.random.default_rng(0).integers(0, 255, (HEIGHT, 30, 1))
    confidence = flow_confidence(image)
    assert confidence[:, 5:15].max() == 0
    assert confidence[10:-10, 27:33].max() < 0.05
    assert np.median(confidence[:, 55:75]) > 0.8


def test_photometric_cost_is_low_only_under_the_true_motion() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    other = np.roll(image, 3, axis=1)
    flow_px = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow_px[..., 0] = 3
    options = {"tolerance": 10.0, "cap": 4.0, "window_px": 3}
    true = photometric_cost(image, other, flow_px, **options)
    wrong = photometric_cost(image, other, 0 * flow_px, **options)
    assert true[5:-5, 5:-8].max() == 0
    assert np.median(wrong) > 3
    np.testing.assert_allclose(true[5:-5, -2:], 1.0)  # left the image: a quarter of the cap


def test_guided_filter_keeps_edges_of_the_guide() -> None:
    guide = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    guide[:, 40:] = 200
    cost = np.random.default_rng(1).normal(size=(HEIGHT, WIDTH)).astype(np.float32) * 0.2
    cost[:, 40:] += 1
    smooth = GuidedFilter(guide, radius_px=5, regularisation=1e-4)(cost)
    assert abs(smooth[10:-10, 30:39].mean()) < 0.05
    assert abs(smooth[10:-10, 41:50].mean() - 1) < 0.05
    assert smooth[10:-10, 10:-10].std() < 0.55


def test_islands_take_the_label_around_them() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[:, 10:] = 1
    labels[4:6, 4:6] = 2
    labels[10:12, 15:17] = 0
    expected = np.zeros_like(labels)
    expected[:, 10:] = 1
    np.testing.assert_array_equal(without_islands(labels, 10), expected)
    np.testing.assert_array_equal(without_islands(labels, 2), labels)
