import pytest
import torch
from torch import Tensor, nn

from pipelines.scene.lookup import Lattice, corner_reads, interpolated, interpolated_by_rows

NESTED = [Lattice(5, None, 0), Lattice(7, None, 125), Lattice(30, 64, 468), Lattice(50, 128, 532)]
"""Two dense lattices and two hashed ones in a table of 660 rows."""


def points(n: int, axes: int) -> Tensor:
    """Some of them outside [-1, 1], some on nodes."""
    found = 2.4 * torch.rand(n, axes, generator=torch.Generator().manual_seed(0)) - 1.2
    found[0], found[1], found[2] = -1.0, 1.0, 0.0
    return found


def table_of(rows: int, channels: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, channels, generator=torch.Generator().manual_seed(1)))


def test_a_linear_function_on_the_nodes_is_interpolated_exactly() -> None:
    n = 5
    axis = torch.linspace(-1, 1, n)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    table = nn.Parameter((1 + 2 * x - 3 * y + 0.5 * z).reshape(-1, 1))
    inside = points(50, 3).clamp(-1, 1)
    expected = 1 + 2 * inside[:, 0] - 3 * inside[:, 1] + 0.5 * inside[:, 2]
    torch.testing.assert_close(interpolated(table, inside, [Lattice(n)])[:, 0], expected)


def test_points_outside_read_the_nearest_node_of_the_rim() -> None:
    rows, weights = corner_reads(torch.tensor([[3.0], [-2.0]]), [Lattice(4)])
    torch.testing.assert_close((rows * weights).sum(1), torch.tensor([3.0, 0.0]))
    nodes = nn.Parameter(torch.arange(4.0)[:, None])
    assert interpolated(nodes, torch.tensor([[3.0], [-2.0], [torch.nan]]), [Lattice(4)])[:, 0].tolist() == [3.0, 0.0, 0.0]


def test_several_lattices_read_their_own_parts_of_the_table() -> None:
    """Point i in lattice l is row l * n + i; hashed rows stay within their part."""
    places = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.3, 0.4]])
    rows, weights = corner_reads(places, [Lattice(3, None, 0), Lattice(5, None, 9)])
    assert rows.shape == weights.shape == (6, 4)
    assert int(rows[:3].max()) < 9 <= int(rows[3:].min())
    torch.testing.assert_close((rows * weights).sum(1)[[0, 1, 3, 4]], torch.tensor([4.0, 6.0, 21.0, 29.0]))
    hashed, _ = corner_reads(places, [Lattice(100, 16, 32), Lattice(200, 64, 48)])
    assert int(hashed[:3].min()) >= 32
    assert int(hashed[:3].max()) < 48 <= int(hashed[3:].min())
    assert int(hashed[3:].max()) < 112


@pytest.mark.parametrize(
    ("axes", "channels", "lattices"),
    [(1, 3, [Lattice(9)]), (2, 5, [Lattice(9)]), (3, 1, [Lattice(8)]), (3, 4, NESTED), (3, 2, NESTED[2:])],
)
def test_the_compiled_loops_do_what_torchs_operations_do(axes: int, channels: int, lattices: list[Lattice]) -> None:
    """Values, and gradients of the table and of the coordinates."""
    table, reference = table_of(660, channels), table_of(660, channels)
    places, reference_places = points(80, axes).requires_grad_(), points(80, axes).requires_grad_()
    found, expected = interpolated(table, places, lattices), interpolated_by_rows(reference, reference_places, lattices)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert table.grad is not None and places.grad is not None and reference_places.grad is not None
    torch.testing.assert_close(table.grad, reference.grad, rtol=1e-5, atol=1e-5)
    # Points on nodes are left out: there the slope jumps, and each way may take either side.
    torch.testing.assert_close(places.grad[3:], reference_places.grad[3:], rtol=1e-4, atol=1e-4)


def test_gradients_of_several_look_ups_add_up_in_the_table() -> None:
    table, places = table_of(660, 4), points(80, 3)
    interpolated(table, places, NESTED).sum().backward()
    assert table.grad is not None
    once = table.grad.clone()
    interpolated(table, places, NESTED).sum().backward()
    torch.testing.assert_close(table.grad, 2 * once)


def test_gradients_by_torchs_operations_agree_with_finite_differences() -> None:
    table = table_of(660, 2).detach().double().requires_grad_()
    places = points(20, 3)[3:].double().clamp(-0.97, 0.97).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, p: interpolated_by_rows(t, p, [Lattice(5)]), (table, places))
