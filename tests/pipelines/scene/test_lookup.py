import torch

from pipelines.scene.lookup import Lattice, corner_reads, weighted_rows


def test_a_linear_function_on_the_nodes_is_interpolated_exactly() -> None:
    n = 5
    axis = torch.linspace(-1, 1, n, dtype=torch.float64)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    table = (1 + 2 * x - 3 * y + 0.5 * z).reshape(-1, 1)
    points = 2 * torch.rand(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    rows, weights = corner_reads(points, [Lattice(n)])
    expected = 1 + 2 * points[:, 0] - 3 * points[:, 1] + 0.5 * points[:, 2]
    torch.testing.assert_close(weighted_rows(table, rows, weights)[:, 0], expected)


def test_points_outside_read_the_nearest_node_of_the_rim() -> None:
    rows, weights = corner_reads(torch.tensor([[3.0], [-2.0]]), [Lattice(4)])
    torch.testing.assert_close((rows * weights).sum(1), torch.tensor([3.0, 0.0]))


def test_several_lattices_read_their_own_parts_of_the_table() -> None:
    """Point i in lattice l is row l * n + i; hashed rows stay within their part."""
    points = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.3, 0.4]])
    rows, weights = corner_reads(points, [Lattice(3, None, 0), Lattice(5, None, 9)])
    assert rows.shape == weights.shape == (6, 4)
    assert int(rows[:3].max()) < 9 <= int(rows[3:].min())
    torch.testing.assert_close((rows * weights).sum(1)[[0, 1, 3, 4]], torch.tensor([4.0, 6.0, 21.0, 29.0]))
    hashed, _ = corner_reads(points, [Lattice(100, 16, 32), Lattice(200, 64, 48)])
    assert int(hashed[:3].min()) >= 32
    assert int(hashed[:3].max()) < 48 <= int(hashed[3:].min())
    assert int(hashed[3:].max()) < 112


def test_gradients_of_table_and_weights_agree_with_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([[0, 1], [1, 1], [5, 0], [2, 4]])
    assert torch.autograd.gradcheck(lambda t, w: weighted_rows(t, rows, w), (table, weights))
