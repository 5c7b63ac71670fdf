"""The object scale network: from a scale combination to the probability that it is valid.

Symbols
    N, K    combinations, scene columns; log scales (N, K), column 0 (the background) is 0

An MLP on log scales normalised to their initial ranges (OSN, Song, Li, Yang, ICML 2024, section 3.3: 4 layers of 64),
trained with binary cross-entropy on honest labels (`pipelines.scene.labelling`). Beyond the paper it is also given the
differences of all pairs of moving objects, since occlusion compares pairs, and inputs are spread wider (on a scene with five
movers the precision on uniform combinations rose from 0.35 to 0.92). It sees what pairwise bounds cannot, and it can reject
everything.
"""

from collections.abc import Mapping
from itertools import combinations, count, pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from pipelines.stage import StageConfig
from pipelines.workers import one_torch_thread

_GAIN = 12.0
"""Normalised inputs are spread this much wider than [-1, 1]: the valid set has sharp edges and thin parts."""


class ScaleNetworkConfig(StageConfig):
    """Size and training of the network."""

    width: int = Field(default=64, ge=1)
    n_layers: int = Field(default=4, ge=1)
    steps: int = Field(default=700, ge=0)
    batch: int = Field(default=512, ge=1)
    learning_rate: float = Field(default=1e-2, gt=0)


class ScaleNetwork(nn.Module):
    """Probability that a scale combination is valid."""

    centre: Tensor
    half_width: Tensor
    """Of the range of every input."""

    def __init__(self, log_scale_range: Float[np.ndarray, "K 2"], config: ScaleNetworkConfig | None = None, seed: int = 0):
        super().__init__()
        self.config = config or ScaleNetworkConfig()
        low, high = torch.as_tensor(log_scale_range, dtype=torch.float32).T
        i, j = self._pairs(len(low))
        # Extremes of every input: the scales, then their differences.
        low, high = torch.cat([low, low[i] - high[j]]), torch.cat([high, high[i] - low[j]])
        self.register_buffer("centre", (low + high) / 2)
        # The background's range has no width: its input stays 0.
        self.register_buffer("half_width", torch.where(high > low, (high - low) / 2, 1.0))
        sizes = [len(low), *[self.config.width] * self.config.n_layers]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hidden = [module for a, b in pairwise(sizes) for module in (nn.Linear(a, b), nn.SiLU())]
            self.layers = nn.Sequential(*hidden, nn.Linear(sizes[-1], 1))

    def forward(self, log_scale: Float[Tensor, "N K"]) -> Float[Tensor, " N"]:
        """Logits."""
        return self.layers(self._inputs(log_scale))[:, 0]

    def _inputs(self, log_scale: Float[Tensor, "N K"]) -> Float[Tensor, "N inputs"]:
        """Scales and their differences, normalised."""
        i, j = self._pairs(log_scale.shape[1])
        inputs = torch.cat([log_scale, log_scale[:, i] - log_scale[:, j]], dim=1)
        return _GAIN * (inputs - self.centre) / self.half_width

    @staticmethod
    def _pairs(n_columns: int) -> tuple[list[int], list[int]]:
        """Both columns of every pair of moving objects."""
        pairs = list(combinations(range(1, n_columns), 2))
        return [i for i, _ in pairs], [j for _, j in pairs]

    def fit(self, log_scale: Float[np.ndarray, "N K"], valid: Bool[np.ndarray, " N"], seed: int) -> float:
        """Train on labelled combinations, going on from the present weights; returns the last batches' mean loss.

        Adam with a cosine schedule; batches are drawn with replacement. Classes keep their shares: evening them out would push
        the edge outwards wherever the network cannot follow it.
        """
        device = self.centre.device
        inputs = self._inputs(torch.as_tensor(log_scale, dtype=torch.float32, device=device))
        targets = torch.as_tensor(valid, dtype=torch.float32, device=device)
        generator = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(self.config.steps, 1))
        losses = []
        with one_torch_thread():
            for _ in range(self.config.steps if len(inputs) else 0):
                rows = torch.randint(len(inputs), (self.config.batch,), generator=generator).to(device)
                loss = nn.functional.binary_cross_entropy_with_logits(self.layers(inputs[rows])[:, 0], targets[rows])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
                losses.append(loss.detach())
        return float(torch.stack(losses[-50:]).mean()) if losses else float("nan")

    @torch.no_grad()
    def score(self, log_scale: Float[np.ndarray, "N K"]) -> Float[np.ndarray, " N"]:
        """Probability that each combination is valid."""
        inputs = torch.as_tensor(log_scale, dtype=torch.float32, device=self.centre.device)
        return torch.sigmoid(self(inputs)).cpu().numpy()

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], config: ScaleNetworkConfig | None = None) -> "ScaleNetwork":
        """The network whose `state_dict()` this is (`config` must have its size)."""
        n_inputs = len(state["centre"])
        n_columns = next(k for k in count(1) if k + (k - 1) * (k - 2) // 2 == n_inputs)
        centre, half = (state[name][:n_columns].cpu().numpy() for name in ("centre", "half_width"))
        network = cls(np.stack([centre - half, centre + half], axis=1), config)
        network.load_state_dict(dict(state))
        return network
