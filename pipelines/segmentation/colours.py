"""What colours say where motion says nothing: bare road beside a mover seems to move with it, but looks like the road.

Symbols: g object; h_g share of each colour among the pixels that move with g for sure; r_g the same in a ring about g.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8

BINS = 16
"""Per colour channel."""
BLUR = 1.0
"""Standard deviation, in bins, by which histograms are smoothed: light changes."""
FLOOR = 1e-4
"""Share that every colour has at least: rare ones say little."""
LEAST_PX = 100
"""An object of fewer decided pixels has no known colours; the background has none of its own."""
MOST = 3.0
"""Largest log-ratio that counts."""


class ColourModels:
    """Colours of every object and of its surroundings, over the whole clip."""

    def __init__(self, n_groups: int, ring_px: int) -> None:
        self.own = np.zeros((n_groups, BINS**3))
        self.around = np.zeros((n_groups, BINS**3))
        self.ring_px = ring_px

    def add(
        self, image: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"], decided: Float[np.ndarray, "G H W"]
    ) -> None:
        """Learn from one frame. decided: how surely motion tells each pixel from the background, 0 ... 1."""
        import cv2

        code = _codes(image)
        kernel = np.ones((2 * self.ring_px + 1,) * 2, np.uint8)
        for g in range(1, len(self.own)):
            mask = labels == g
            if not mask.any():
                continue
            ring = cv2.dilate(mask.astype(np.uint8), kernel).astype(bool) & ~mask
            self.own[g] += np.bincount(code[mask], decided[g][mask], BINS**3)
            self.around[g] += np.bincount(code[ring], minlength=BINS**3)

    def penalty(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "G H W"]:
        """log(r_g / h_g) where positive: by how much each pixel's colour is rather that of the object's surroundings."""
        code = _codes(image)
        ratio = np.log(_shares(self.around) / _shares(self.own)).clip(0, MOST).astype(np.float32)
        ratio[self.own.sum(1) < LEAST_PX] = 0
        return ratio[:, code]


def _codes(image: UInt8[np.ndarray, "H W 3"]) -> Int[np.ndarray, "H W"]:
    return (image.astype(int) * BINS // 256) @ np.array([BINS**2, BINS, 1])


def _shares(counts: Float[np.ndarray, "G n"]) -> Float[np.ndarray, "G n"]:
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(counts.reshape(-1, BINS, BINS, BINS), (0, BLUR, BLUR, BLUR)).reshape(counts.shape)
    return blurred / np.maximum(blurred.sum(1, keepdims=True), 1e-9) + FLOOR
