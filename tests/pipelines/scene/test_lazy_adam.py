"""Adam for the entries that have a gradient, against torch's Adam."""

import torch
from torch import Tensor, nn

from pipelines.scene.lazy_adam import LazyAdam, _updated_on_gpu


def gradients(n: int, *, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 3, generator=generator) for _ in range(5)]


def stepped(optimiser: torch.optim.Optimizer, parameter: nn.Parameter, grads: list[Tensor]) -> Tensor:
    for grad in grads:
        parameter.grad = grad.clone()
        optimiser.step()
    return parameter.detach()


def test_with_gradients_everywhere_it_is_adam() -> None:
    """100 rows of three: more than a block, and not a whole number of blocks."""
    start = torch.linspace(-1, 1, 300).view(100, 3)
    lazy, usual = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = LazyAdam([{"params": [lazy], "lr": 0.05, "eps": 1e-8}])
    theirs = torch.optim.Adam([usual], lr=0.05, betas=(0.9, 0.99), eps=1e-8)
    torch.testing.assert_close(stepped(ours, lazy, gradients(100)), stepped(theirs, usual, gradients(100)))


def test_entries_without_a_gradient_keep_value_and_moments() -> None:
    """Entry 0 is asked in the first and the last step, entry 200 in the first only, which leaves it momentum."""
    parameter = nn.Parameter(torch.zeros(300))
    optimiser = LazyAdam([{"params": [parameter], "lr": 0.1}])
    for asked in ([0, 200], [], [], [0]):
        parameter.grad = torch.zeros(300)
        parameter.grad[asked] = 2.0
        before = parameter.detach().clone()
        optimiser.step()
        assert (parameter.detach() != before).nonzero()[:, 0].tolist() == asked
    state = optimiser.state[parameter]
    # Two steps with the same gradient g: the mean is (1 - 0.9^2) g, the square (1 - 0.99^2) g^2.
    torch.testing.assert_close(state["mean"][[0, 200]], torch.tensor([0.19 * 2, 0.1 * 2]))
    torch.testing.assert_close(state["square"][[0, 200]], torch.tensor([0.0199 * 4, 0.01 * 4]))


def test_gradients_are_spent() -> None:
    parameter = nn.Parameter(torch.zeros(70))
    stepped(LazyAdam([parameter]), parameter, [torch.ones(70)])
    assert parameter.grad is not None
    assert not parameter.grad.any()


def test_the_gpus_operations_do_the_same() -> None:
    """They run on any device."""
    parameters = [nn.Parameter(torch.ones(100, 3)) for _ in range(2)]
    optimiser = LazyAdam([{"params": parameters[:1], "lr": 0.05}])
    state = {"step": 0, "mean": torch.zeros(100, 3), "square": torch.zeros(100, 3)}
    for grad in gradients(100):
        grad[::3] = 0
        stepped(optimiser, parameters[0], [grad])
        state["step"] += 1
        with torch.no_grad():
            _updated_on_gpu(parameters[1], grad, state, 0.05, (0.9, 0.99), 1e-12)
        assert not grad.any()
    torch.testing.assert_close(parameters[0], parameters[1])


def test_a_saved_state_continues_exactly() -> None:
    grads = gradients(100)
    unbroken, broken = nn.Parameter(torch.ones(100, 3)), nn.Parameter(torch.ones(100, 3))
    expected = stepped(LazyAdam([unbroken]), unbroken, grads)
    first = LazyAdam([broken])
    stepped(first, broken, grads[:2])
    second = LazyAdam([broken])
    second.load_state_dict(first.state_dict())
    assert torch.equal(stepped(second, broken, grads[2:]), expected)
