"""What one asks a promptable segmentation model, and what it answers. Shared by the adapters.

Pixel coordinates: the centre of the top-left pixel is (0.5, 0.5), so a box round a single pixel (i, j) is (i, j, i + 1, j + 1).
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float32


def _no_points() -> Float[np.ndarray, "0 2"]:
    return np.zeros((0, 2))


def _no_flags() -> Bool[np.ndarray, "0"]:
    return np.zeros(0, bool)


@dataclass(frozen=True)
class Prompt:
    """Points on (`positive`) and off the object, a box round it, and low-resolution logits of an earlier answer."""

    points_px: Float[np.ndarray, "n 2"] = field(default_factory=_no_points)
    positive: Bool[np.ndarray, " n"] = field(default_factory=_no_flags)
    box_px: Float[np.ndarray, "4"] | None = None
    """x0, y0, x1, y1 of the edges."""
    logits: Float32[np.ndarray, "side side"] | None = None


@dataclass(frozen=True)
class Prediction:
    """Logits at the image's size (positive: on the object), the model's own estimate of the mask's IoU, and the
    low-resolution logits that a later prompt may carry."""

    logit: Float32[np.ndarray, "H W"]
    score: float
    low_res: Float32[np.ndarray, "side side"]

    @property
    def mask(self) -> Bool[np.ndarray, "H W"]:
        return self.logit > 0
