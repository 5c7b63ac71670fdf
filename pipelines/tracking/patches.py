"""Sub-pixel alignment of many small patches with their reference, so that long tracks do not drift.

Symbols
    x           offset inside the patch, px, from its centre
    warp        affine A (2 x 2) and centre c: patch offset x of the reference is seen at c + A x in the other frame
    T, I        brightness of the reference patch and of the other frame, each with its mean removed and scaled to unit contrast
The inverse compositional algorithm (Baker & Matthews, "Lucas-Kanade 20 Years On", IJCV 2004, section 3.2) for the affine warp:
the reference's gradients are used, so the 6 x 6 system of a patch is inverted once. Positions have pixel centres at +0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

PATCH_RADIUS_PX = 5
MIN_CORRELATION = 0.8
MAX_SHIFT_PX = 2.5
BLUR_PX = 0.5
"""How patches are compared unless one is told otherwise (`TracksConfig` says what each of the four means)."""
AFFINE_PRIOR = 0.03
"""Pull of the affine part towards its start, as a share of the patch's mean gradient energy."""
MIN_CONTRAST = 1.0
"""Grey levels (of 255): patches with a smaller deviation hold nothing to align."""


@dataclass(frozen=True)
class Templates:
    """Reference patches ready for alignment. P patches of M pixels, shape `side` x `side`."""

    offsets: Float32[np.ndarray, "M 2"]
    weight: Float32[np.ndarray, "P M"]
    """Weights sum to 1; zero where the reference pixel shows another object."""
    brightness: Float32[np.ndarray, "P M"]
    steepest: Float32[np.ndarray, "P M 6"]
    """Weighted derivatives of T by (dx, dy, dA00, dA01, dA10, dA11)."""
    inverse: Float32[np.ndarray, "P 6 6"]
    spread_px: Float32[np.ndarray, " P"]
    """Position uncertainty (px) under brightness noise as strong as the contrast: small on corners, large on plain edges."""

    def where(self, kept: np.ndarray) -> "Templates":
        return Templates(
            self.offsets,
            self.weight[kept],
            self.brightness[kept],
            self.steepest[kept],
            self.inverse[kept],
            self.spread_px[kept],
        )

    @classmethod
    def joined(cls, parts: Sequence["Templates"]) -> "Templates":
        """Patches of one size, from one image or several."""

        def together(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        names = ("weight", "brightness", "steepest", "inverse", "spread_px")
        return cls(parts[0].offsets, *(together(name) for name in names))


def smoothed_brightness(image: UInt8[np.ndarray, "H W 3"], blur_px: float = BLUR_PX) -> Float32[np.ndarray, "H W"]:
    """Brightness of an RGB image, lightly smoothed so that bilinear samples of it are unbiased."""
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return cv2.GaussianBlur(grey, (0, 0), blur_px) if blur_px > 0 else grey


def sample(image: Float32[np.ndarray, "H W"], xy_px: Float32[np.ndarray, "P M 2"]) -> Float32[np.ndarray, "P M"]:
    """Bilinear samples at pixel coordinates with centres at +0.5; outside, the nearest edge pixel."""
    import cv2

    # OpenCV puts the first pixel's centre at 0, and refuses maps of more than 32767 rows.
    coordinates = (xy_px - 0.5).astype(np.float32)
    rows = [
        cv2.remap(image, chunk[..., 0], chunk[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for chunk in np.split(coordinates, range(30000, len(coordinates), 30000))
        if len(chunk)
    ]
    return np.concatenate(rows) if rows else np.zeros(xy_px.shape[:2], np.float32)


def patch_offsets(radius_px: int) -> Float32[np.ndarray, "M 2"]:
    """Offsets of the pixels of a square patch."""
    x, y = np.meshgrid(np.arange(-radius_px, radius_px + 1), np.arange(-radius_px, radius_px + 1))
    return np.stack([x.ravel(), y.ravel()], -1).astype(np.float32)


def _standardised(brightness: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brightness with weighted mean 0 and deviation 1, and the deviation itself."""
    centred = brightness - np.sum(weight * brightness, -1, keepdims=True)
    contrast = np.sqrt(np.sum(weight * centred**2, -1, keepdims=True))
    return centred / np.maximum(contrast, 1e-6), contrast[:, 0]


def make_templates(
    image: Float32[np.ndarray, "H W"],
    usable: Bool[np.ndarray, "H W"],
    centres_px: Float32[np.ndarray, "P 2"],
    radius_px: int,
) -> tuple[Templates, Bool[np.ndarray, " P"]]:
    """Reference patches around the centres, using only `usable` pixels; and which of them hold enough to align."""
    offsets = patch_offsets(radius_px)
    xy_px = centres_px[:, None] + offsets
    inside = sample(usable.astype(np.float32), xy_px) > 0.99
    inside &= ((xy_px > 0.5) & (xy_px < np.array(image.shape[::-1], np.float32) - 0.5)).all(-1)
    fall_off = np.exp(-np.sum(offsets**2, -1) / (2 * (0.7 * radius_px + 0.5) ** 2))
    weight = (inside * fall_off).astype(np.float32)
    filled = weight.sum(-1, keepdims=True) / fall_off.sum()
    weight /= np.maximum(weight.sum(-1, keepdims=True), 1e-9)
    brightness, contrast = _standardised(sample(image, xy_px), weight)

    step = np.array([[0.5, 0.0], [0.0, 0.5]], np.float32)
    gradient = np.stack([sample(image, xy_px + d) - sample(image, xy_px - d) for d in step], -1)
    gradient /= np.maximum(contrast, 1e-6)[:, None, None]
    x, y = offsets[:, 0:1], offsets[:, 1:2]
    gx, gy = gradient[..., 0:1], gradient[..., 1:2]
    steepest = np.concatenate([gx, gy, gx * x, gx * y, gy * x, gy * y], -1)
    # A change of gain or offset explains nothing of the motion.
    steepest -= np.sum(weight[..., None] * steepest, 1, keepdims=True)
    steepest -= brightness[..., None] * np.sum((weight * brightness)[..., None] * steepest, 1, keepdims=True)
    weighted = steepest * weight[..., None]
    normal = np.swapaxes(weighted, 1, 2) @ steepest
    energy = np.trace(normal[:, :2, :2], axis1=1, axis2=2) / 2
    prior = AFFINE_PRIOR * energy * radius_px**2
    index = np.arange(2, 6)
    normal[:, index, index] += prior[:, None]
    normal += 1e-6 * np.eye(6, dtype=np.float32)
    inverse = np.linalg.inv(normal).astype(np.float32)
    n_pixels = np.maximum(inside.sum(-1), 1)
    spread_px = np.sqrt(np.maximum(inverse[:, 0, 0] + inverse[:, 1, 1], 0) / n_pixels)
    good = (contrast > MIN_CONTRAST) & (filled[:, 0] > 0.4)
    return Templates(offsets, weight, brightness, weighted, inverse, spread_px.astype(np.float32)), good


def align(
    templates: Templates,
    image: Float32[np.ndarray, "H W"],
    centres_px: Float32[np.ndarray, "P 2"],
    affine: Float32[np.ndarray, "P 2 2"],
    *,
    max_iterations: int = 12,
    tolerance_px: float = 0.005,
) -> tuple[Float32[np.ndarray, "P 2"], Float32[np.ndarray, "P 2 2"], Float32[np.ndarray, " P"]]:
    """Refine centres and affine parts so that the image matches the references.

    Returns the centres, the affine parts, and the correlation (1 is a perfect match) at the result.
    """
    centres_px, affine = centres_px.copy(), affine.copy()
    moving = np.arange(len(centres_px))
    for _ in range(max_iterations):
        if not len(moving):
            break
        part = templates.where(moving)
        seen = sample(image, centres_px[moving, None] + part.offsets @ np.swapaxes(affine[moving], 1, 2))
        seen, _ = _standardised(seen, part.weight)
        gradient = np.einsum("pmi,pm->pi", part.steepest, seen - part.brightness)
        step = np.einsum("pij,pj->pi", part.inverse, gradient)
        step[:, :2] = np.clip(step[:, :2], -2, 2)
        step[:, 2:] = np.clip(step[:, 2:], -0.2, 0.2)
        # Compose with the inverse of the step: x -> A (I + dA)^-1 (x - d) + c
        back = np.linalg.inv(np.eye(2, dtype=np.float32) + step[:, 2:].reshape(-1, 2, 2))
        affine[moving] = affine[moving] @ back
        centres_px[moving] -= np.einsum("pij,pj->pi", affine[moving], step[:, :2])
        moving = moving[np.abs(step[:, :2]).max(-1) > tolerance_px]
    seen, _ = _standardised(
        sample(image, centres_px[:, None] + templates.offsets @ np.swapaxes(affine, 1, 2)), templates.weight
    )
    return centres_px, affine, np.sum(templates.weight * seen * templates.brightness, -1)
