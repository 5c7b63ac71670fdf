import dataclasses

import numpy as np
import torch

from pipelines.artifacts import ObjectModel, SfmStatus
from pipelines.scene.boxes import background_box, node_size
from pipelines.scene.contraction import Box


def seen_points(points: np.ndarray) -> ObjectModel:
    """Points that one camera at the origin sees."""
    empty = ObjectModel.failed(0, SfmStatus.OK, "", 1)
    n = len(points)
    return dataclasses.replace(
        empty,
        registered=np.ones(1, bool),
        points=points,
        point_error_px=np.zeros(n),
        point_rgb=np.zeros((n, 3), np.uint8),
        obs_point=np.arange(n),
        obs_frame=np.zeros(n, int),
        obs_xy_px=np.zeros((n, 2)),
    )


def cone(depth: np.ndarray) -> np.ndarray:
    """Points in a field of view of 53 degrees."""
    random = np.random.default_rng(0)
    return np.column_stack([random.uniform(-0.5, 0.5, (len(depth), 2)) * depth[:, None], depth])


def test_node_size_is_the_grid_step_inside_the_box_and_grows_outside() -> None:
    box = Box(torch.zeros(3), torch.tensor([2.0, 1.0, 4.0]), 0.5)
    size = node_size(box, torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.0, 8.0]]))
    np.testing.assert_allclose(float(size[0]), 2 * 8 ** (1 / 3), rtol=1e-5)
    assert float(size[1]) > 1.5 * float(size[0])


def test_a_room_gets_most_of_the_grid_and_a_yard_with_a_far_row_of_houses_a_small_box() -> None:
    room = background_box(seen_points(cone(np.linspace(3, 6, 400))))
    depth = np.concatenate([np.linspace(2, 6, 300), np.linspace(60, 100, 100)])
    yard = background_box(seen_points(cone(depth)))
    assert float(room.half_extent[2] + room.centre[2]) > 5.5
    assert room.share >= 0.65
    assert float(yard.half_extent[2] + yard.centre[2]) < 30
