"""Which parameters of a field follow which optimiser, and at which rate."""

import pytest
import torch

from pipelines.scene.contraction import Box
from pipelines.scene.fields import FieldKind, FieldSize, ObjectField, make_field
from pipelines.scene.optimisers import FieldOptimiser
from pipelines.train import TrainConfig

CONFIG = TrainConfig(density_rate=0.04, table_rate=0.02, network_rate=0.002)


def small(kind: FieldKind) -> ObjectField:
    torch.manual_seed(0)
    size = FieldSize(kind, 2, 2, 3, table_bits=10, colour_resolution=33, hidden=8)
    return make_field(Box(torch.zeros(3), torch.ones(3)), size, 9)


def with_gradients(field: ObjectField) -> None:
    points = 2 * torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) - 1
    density, rgb = field.query(points, torch.ones_like(points))
    (density.sum() + rgb.square().sum()).backward()


@pytest.mark.parametrize("kind", list(FieldKind))
def test_the_first_step_moves_each_parameter_by_its_own_rate(kind: FieldKind) -> None:
    """Adam's first step is the rate, whatever the gradient; a tenth of it at a tenth of the rate. Gradients are spent."""
    field = small(kind)
    with_gradients(field)
    before = {name: parameter.detach().clone() for name, parameter in field.named_parameters()}
    FieldOptimiser(CONFIG, field).step(0.1)
    for name, parameter in field.named_parameters():
        rate = 0.002 if name.startswith(("colour_network", "basis")) else 0.04 if "density_tables" in name else 0.02
        moved = (parameter.detach() - before[name]).abs()
        assert moved.max().item() == pytest.approx(0.1 * rate, rel=1e-2), name
        assert parameter.grad is not None and not parameter.grad.any(), name


def test_only_density_goes_on_where_a_step_says_nothing() -> None:
    field = small(FieldKind.GRID)
    optimiser = FieldOptimiser(CONFIG, field)
    with_gradients(field)
    optimiser.step(1.0)
    before = {name: parameter.detach().clone() for name, parameter in field.named_parameters()}
    optimiser.step(1.0)
    still = [name for name, parameter in field.named_parameters() if torch.equal(parameter, before[name])]
    assert still == ["colour_table"]


def test_a_saved_state_continues_exactly() -> None:
    unbroken, broken = small(FieldKind.GRID), small(FieldKind.GRID)
    first, second = FieldOptimiser(CONFIG, unbroken), FieldOptimiser(CONFIG, broken)
    for optimiser, field in ((first, unbroken), (second, broken)):
        with_gradients(field)
        optimiser.step(1.0)
    again = FieldOptimiser(CONFIG, broken)
    again.load_state_dict(second.state_dict())
    for optimiser, field in ((first, unbroken), (again, broken)):
        with_gradients(field)
        optimiser.step(0.5)
    assert all(torch.equal(a, b) for a, b in zip(unbroken.parameters(), broken.parameters(), strict=True))
