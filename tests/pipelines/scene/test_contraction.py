import pytest
import torch

from pipelines.scene.contraction import Box, contract, expand


def test_half_a_share_is_the_contraction_of_mip_nerf_360() -> None:
    """2 - 1/|x| outside the unit ball, halved to fill [-1, 1]."""
    n = torch.tensor([[4.0, 0.0, -2.0], [0.5, 0.25, 0.0]])
    torch.testing.assert_close(contract(n, 0.5), torch.tensor([[0.875, 0.0, -0.4375], [0.25, 0.125, 0.0]]))


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_contraction_has_an_inverse_and_stays_inside(share: float) -> None:
    n = 20 * (torch.rand(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5)
    g = contract(n, share)
    assert float(g.abs().max()) < 1
    torch.testing.assert_close(expand(g, share), n)


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_contraction_and_its_slope_are_continuous_at_the_box(share: float) -> None:
    x = torch.tensor([1 - 1e-6, 1 + 1e-6], dtype=torch.float64, requires_grad=True)
    g = contract(torch.stack([x, 0 * x, 0 * x], -1), share)[:, 0]
    (slope,) = torch.autograd.grad(g.sum(), x)
    torch.testing.assert_close(g, torch.tensor([share, share], dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(slope, torch.tensor([share, share], dtype=torch.float64), atol=1e-4, rtol=0)


def test_box_normalises_and_inverts() -> None:
    box = Box(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 1.0, 0.5]))
    corner = torch.tensor([[3.0, 1.0, 3.5]])
    torch.testing.assert_close(box.grid_from_obj(corner), torch.tensor([[1.0, -1.0, 1.0]]))
    torch.testing.assert_close(box.obj_from_grid(torch.tensor([[1.0, -1.0, 1.0]])), corner)


def test_rays_enter_and_leave_the_box() -> None:
    box = Box(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]))
    origins = torch.tensor([[-5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-5.0, 2.5, 0.0]])
    directions = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    enters, leaves = box.crossing(origins, directions)
    torch.testing.assert_close(enters[:2], torch.tensor([2.0, -2.0]))
    torch.testing.assert_close(leaves[:2], torch.tensor([3.0, 2.0]))
    assert float(leaves[2]) <= float(enters[2])
