import pytest
import torch
from torch import nn

from pipelines.scene.total_variation import reference, total_variation


def test_a_ramp_by_hand() -> None:
    """Nodes 0, 1, 2, 3 along the last axis: every difference there is 1, the other axes have none."""
    table = nn.Parameter(torch.arange(4.0).repeat(16)[:, None])
    assert total_variation(table, 4).item() == pytest.approx(1.0)


@pytest.mark.parametrize("resolution", [2, 5, 17])
def test_value_and_gradient_are_those_of_torchs_operations(resolution: int) -> None:
    torch.manual_seed(0)
    table = nn.Parameter(torch.randn(resolution**3, 1))
    volume = table.detach().view(resolution, resolution, resolution).requires_grad_()
    value, expected = total_variation(table, resolution), reference(volume)
    torch.testing.assert_close(value, expected)
    (3 * value).backward()
    (3 * expected).backward()
    assert table.grad is not None and volume.grad is not None
    torch.testing.assert_close(table.grad.view_as(volume), volume.grad)


def test_gradients_add_up() -> None:
    table = nn.Parameter(torch.randn(27, 1, generator=torch.Generator().manual_seed(1)))
    total_variation(table, 3).backward()
    assert table.grad is not None
    once = table.grad.clone()
    total_variation(table, 3).backward()
    torch.testing.assert_close(table.grad, 2 * once)
