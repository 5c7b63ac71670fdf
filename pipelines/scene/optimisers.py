"""How an object's parameters follow their gradients: tables that are read sparsely lazily, everything else by ordinary Adam.

Density grids stay with ordinary Adam, although most of their nodes have no gradient in a step either: they are few, and without
what their momentum carries on they were 5 % behind in depth and masks after the 1,200 steps of `fast`.
"""

from collections.abc import Iterator
from typing import Any

import torch

from pipelines.scene.fields import ObjectField
from pipelines.scene.lazy_adam import LazyAdam
from pipelines.train import TrainConfig

BETAS = (0.9, 0.99)
EPS = 1e-12
DENSITY_EPS = 1e-9
"""For density grids: nodes that only total variation touches must not move at full speed."""


class FieldOptimiser:
    """Of one object's field. Gradients are zero, not None, after a step: they keep their memory."""

    def __init__(self, config: TrainConfig, field: ObjectField) -> None:
        whole, sparse = _groups(config, field)
        self.whole = torch.optim.Adam(whole, betas=BETAS, eps=EPS, fused=True)
        self.sparse = LazyAdam(sparse, betas=BETAS, eps=EPS) if sparse else None

    def step(self, rate: float) -> None:
        """One step at `rate` times every group's own rate."""
        for optimiser in self._parts():
            for group in optimiser.param_groups:
                group["lr"] = rate * group["rate"]
            optimiser.step()
        self.whole.zero_grad(set_to_none=False)

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimiser.state_dict() for optimiser in self._parts()]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for optimiser, part in zip(self._parts(), state, strict=True):
            optimiser.load_state_dict(part)

    def _parts(self) -> Iterator[torch.optim.Optimizer]:
        yield self.whole
        if self.sparse is not None:
            yield self.sparse


def _groups(config: TrainConfig, field: ObjectField) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Parameters with their own rates: those of ordinary Adam, and those that are read sparsely."""
    whole, sparse = list[dict[str, Any]](), list[dict[str, Any]]()
    for name, parameter in field.named_parameters():
        if name == field.sparse_table:
            sparse.append({"params": [parameter], "rate": config.table_rate})
        elif name.startswith("density_tables"):
            whole.append({"params": [parameter], "rate": config.density_rate, "eps": DENSITY_EPS})
        elif name.startswith(("colour_network", "basis")):
            whole.append({"params": [parameter], "rate": config.network_rate})
        else:
            whole.append({"params": [parameter], "rate": config.table_rate})
    return whole, sparse
