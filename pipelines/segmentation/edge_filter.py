"""Edge-aware smoothing of label costs: the guided filter with a colour guide.

Sources: He, Sun, Tang, "Guided Image Filtering" (TPAMI 2013), eq. 19-21; Rhemann et al., "Fast Cost-Volume Filtering for Visual
Correspondence and Beyond" (CVPR 2011): filtering each label's cost and taking the smallest cuts along image edges.
"""

import numpy as np
from jaxtyping import Float, UInt8


class GuidedFilter:
    """Filters for one guide image, prepared once and applied to many cost maps."""

    def __init__(self, guide: UInt8[np.ndarray, "H W 3"], radius_px: int, regularisation: float) -> None:
        """regularisation: variance of colours (in 0 ... 1) below which the guide counts as flat."""
        self.guide = guide.astype(np.float32) / 255
        self.size = (2 * radius_px + 1, 2 * radius_px + 1)
        self.mean = self._box(self.guide)
        outer = self.guide[..., :, None] * self.guide[..., None, :]
        covariance = self._box(outer.reshape(*guide.shape[:2], 9)).reshape(*guide.shape[:2], 3, 3)
        covariance -= self.mean[..., :, None] * self.mean[..., None, :]
        covariance += regularisation * np.eye(3, dtype=np.float32)
        self.inverse = np.linalg.inv(covariance)

    def _box(self, image: np.ndarray) -> np.ndarray:
        import cv2

        return (
            cv2.blur(image, self.size)
            if image.ndim < 3 or image.shape[2] <= 4
            else np.stack([cv2.blur(np.ascontiguousarray(image[..., i]), self.size) for i in range(image.shape[2])], -1)
        )

    def __call__(self, cost: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
        mean = self._box(cost)
        cross = self._box(self.guide * cost[..., None]) - self.mean * mean[..., None]
        slope = np.einsum("hwij,hwj->hwi", self.inverse, cross)
        offset = mean - (slope * self.mean).sum(-1)
        return (self._box(slope) * self.guide).sum(-1) + self._box(offset)
