"""Adam that leaves alone what a step said nothing about.

A step reads a few of the millions of entries of an object's colour tables. Ordinary Adam moves the others too, by what is left
of their momentum, and takes longer for that than all else in the step. Here an entry without a gradient keeps its value and its
moments, as in Instant-NGP (Mueller et al. 2022, section 4) and TensorFlow's LazyAdam.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.compiled import compiled

BLOCK = 32
"""Entries that are passed over at once where all their gradients are zero."""


class LazyAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1) for the entries whose gradient is not zero. `step` sets the gradients to zero.

    Parameters and gradients must be contiguous, in single precision. Options per group: lr, eps.
    """

    def __init__(self, params: Iterable[Any], *, betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-12) -> None:
        super().__init__(params, {"lr": 1e-3, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Without a closure only."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state |= {"step": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
                state["step"] += 1
                update = _updated_on_gpu if parameter.is_cuda else _updated_on_cpu
                update(parameter, parameter.grad, state, group["lr"], group["betas"], group["eps"])


def _updated_on_cpu(
    parameter: Tensor, grad: Tensor, state: dict[str, Any], rate: float, betas: tuple[float, float], eps: float
) -> None:
    arrays = (parameter.detach(), grad, state["mean"], state["square"])
    _update(*(array.view(-1).numpy() for array in arrays), *_factors(state["step"], rate, betas, eps))


def _updated_on_gpu(
    parameter: Tensor, grad: Tensor, state: dict[str, Any], rate: float, betas: tuple[float, float], eps: float
) -> None:
    step_size, root_correction, beta1, beta2, eps32 = (float(factor) for factor in _factors(state["step"], rate, betas, eps))
    asked, mean, square = grad != 0, state["mean"], state["square"]
    mean.copy_(torch.where(asked, torch.lerp(grad, mean, beta1), mean))
    square.copy_(torch.where(asked, torch.lerp(grad * grad, square, beta2), square))
    parameter.sub_(torch.where(asked, step_size * mean / (square.sqrt() * root_correction + eps32), 0.0))
    grad.zero_()


def _factors(step: int, rate: float, betas: tuple[float, float], eps: float) -> tuple[np.float32, ...]:
    """Rate and root with their bias corrections, betas, eps."""
    beta1, beta2 = betas
    return tuple(np.float32(x) for x in (rate / (1 - beta1**step), (1 - beta2**step) ** -0.5, beta1, beta2, eps))


@compiled
def _update(parameter, grad, mean, square, step_size, root_correction, beta1, beta2, eps):
    rest1, rest2 = np.float32(1) - beta1, np.float32(1) - beta2
    bits_of_grad = grad.view(np.int32)
    for first in range(0, len(grad), BLOCK):
        # Bits, since such a loop is vectorised: passing over a block costs no more than reading it.
        block = bits_of_grad[first : first + BLOCK]
        bits = np.int32(0)
        for i in range(len(block)):
            bits |= block[i]
        if bits != 0:
            for i in range(first, min(first + BLOCK, len(grad))):
                g = grad[i]
                if g != 0:
                    mean[i] = beta1 * mean[i] + rest1 * g
                    square[i] = beta2 * square[i] + rest2 * g * g
                    parameter[i] -= step_size * mean[i] / (np.sqrt(square[i]) * root_correction + eps)
                    grad[i] = 0
