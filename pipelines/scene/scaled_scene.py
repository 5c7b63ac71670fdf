"""What drawing samples needs of a scene (`pipelines.scene.scene.Scene` satisfies it)."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pipelines.scene.evidence import OcclusionEvidence
from pipelines.scene.zone import Zone


@runtime_checkable
class ScoresScales(Protocol):
    """The scale network: log scales (n, K) -> probability of being valid (n,)."""

    def score(self, log_scale: np.ndarray) -> np.ndarray: ...


@runtime_checkable
class ScaledScene(Protocol):
    """A scene of K objects over T frames that knows something about its scales."""

    @property
    def width(self) -> int: ...

    @property
    def object_ids(self) -> tuple[int, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def registered(self) -> np.ndarray:
        """(K, T) bool."""
        ...

    @property
    def log_scale_range(self) -> np.ndarray:
        """(K, 2) near and far limits, assumptions."""
        ...

    @property
    def zone(self) -> Zone | None: ...

    @property
    def network(self) -> ScoresScales | None: ...

    @property
    def evidence(self) -> OcclusionEvidence | None:
        """Of the last round of training."""
        ...

    def alone_maps(self, *, width: int, frames: Sequence[int]) -> Any:
        """`pipelines.scene.evidence.AloneMaps` of some frames."""
        ...
