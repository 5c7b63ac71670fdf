import pytest
import torch

from pipelines.scene.contraction import Box
from pipelines.scene.fields import FieldKind, FieldSize, ObjectField, make_field

BOX = Box(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 1.0, 0.5]))


def small(kind: FieldKind, resolution: int = 9, box: Box = BOX) -> ObjectField:
    torch.manual_seed(0)
    size = FieldSize(
        kind, density_components=2, colour_components=2, colour_levels=3, table_bits=10, colour_resolution=33, hidden=8
    )
    field = make_field(box, size, resolution)
    with torch.no_grad():
        for name, parameter in field.named_parameters():
            if not name.startswith("colour_network"):
                parameter.uniform_(-1, 1)
    return field


def some_points(n: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return BOX.obj_from_grid(2 * torch.rand(n, 3, generator=generator) - 1)


@pytest.mark.parametrize("kind", list(FieldKind))
def test_a_finer_grid_that_holds_the_old_nodes_is_the_same_field(kind: FieldKind) -> None:
    """17 nodes hold the 9 old ones and their middles, where linear interpolation is exact."""
    field, points = small(kind), some_points()
    dirs = torch.ones_like(points)
    density, rgb = field.query(points, dirs)
    if kind is FieldKind.GRID:
        # Its coarser grids (4 nodes) do not nest in their successors (8): compare where they are all constant instead.
        with torch.no_grad():
            field.density_tables[0].fill_(0.5)
        density, rgb = field.query(points, dirs)
    field.upsample(17)
    finer_density, finer_rgb = field.query(points, dirs)
    assert field.resolution == 17
    torch.testing.assert_close(finer_density, density, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(finer_rgb, rgb, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", list(FieldKind))
def test_a_bounded_field_is_empty_outside_its_box(kind: FieldKind) -> None:
    field = small(kind)
    outside = torch.tensor([[3.01, 2.0, 3.0], [1.0, 0.5, 3.0], [1.0, 2.0, 9.0]])
    assert field.density(outside).tolist() == [0.0, 0.0, 0.0]
    assert bool((field.density(some_points()) > 0).all())


@pytest.mark.parametrize("kind", list(FieldKind))
def test_the_length_unit_only_scales_density(kind: FieldKind) -> None:
    """The same field in a unit half as long: coordinates double, density halves, so opacity is the same."""
    field, points = small(kind), some_points()
    in_half_units = small(kind, box=Box(2 * BOX.centre, 2 * BOX.half_extent))
    torch.testing.assert_close(in_half_units.density(2 * points), field.density(points) / 2)


@pytest.mark.parametrize("kind", list(FieldKind))
def test_gradients_reach_every_parameter_and_the_points(kind: FieldKind) -> None:
    field, points = small(kind), some_points().requires_grad_()
    density, rgb = field.query(points, torch.ones_like(points))
    (density.sum() + rgb.square().sum() + field.smoothness()).backward()
    assert points.grad is not None
    assert float(points.grad.abs().max()) > 0
    missing = [name for name, p in field.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0]
    assert missing == []


def test_seeded_density_stands_at_the_points() -> None:
    torch.manual_seed(0)
    size = FieldSize(FieldKind.GRID, 2, 2, 2, table_bits=10, colour_resolution=33, hidden=8)
    field = make_field(BOX, size, 33)
    point = torch.tensor([[1.5, 2.5, 3.1]])
    field.seed(BOX.grid_from_obj(point))
    far = torch.tensor([[-0.5, 1.2, 2.7]])
    with torch.no_grad():
        assert float(field.density(point)) > 50 * float(field.density(far))
