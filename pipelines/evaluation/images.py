"""How alike two images are. Images are float arrays (H, W, 3) in [0, 1]; masks say which pixels count.

Defined everywhere: identical images have an infinite PSNR and an SSIM of 1; a mask without pixels gives NaN (there is
nothing to judge); a predicted value that is not finite counts as the wrongest value possible.
"""

import numpy as np
from jaxtyping import Bool, Float

from pipelines.errors import InputError

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
_K1, _K2 = 0.01, 0.03


def made_finite(predicted: Float[np.ndarray, "H W 3"], true: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """Values that are not finite replaced by 0 or 1, whichever is further from the truth."""
    return np.where(np.isfinite(predicted), predicted, np.where(true > 0.5, 0.0, 1.0))


def psnr_db(
    predicted: Float[np.ndarray, "H W 3"], true: Float[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"] | None = None
) -> float:
    """Peak signal-to-noise ratio for a peak of 1, over the mask's pixels and all channels."""
    squared = np.square(made_finite(predicted, true).astype(np.float64) - true)
    chosen = squared if mask is None else squared[mask]
    if chosen.size == 0:
        return float("nan")
    error = float(chosen.mean())
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def ssim(
    predicted: Float[np.ndarray, "H W 3"], true: Float[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"] | None = None
) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004): Gaussian window of 11 px and sigma 1.5, mean over the channels.

    The border of half a window is left out. With a mask, a window's statistics come from the mask's pixels in it alone
    (their weights are normalised), and the mean is over the mask's pixels.
    Raises InputError for images smaller than the window.
    """
    if min(true.shape[:2]) < SSIM_WINDOW_PX:
        raise InputError(
            f"SSIM needs images of at least {SSIM_WINDOW_PX} px a side, these have {true.shape[1]} x {true.shape[0]}"
        )
    similarity = ssim_map(made_finite(predicted, true), true, mask).mean(-1)
    margin = SSIM_WINDOW_PX // 2
    inner = (slice(margin, -margin), slice(margin, -margin))
    chosen = similarity[inner] if mask is None else similarity[inner][mask[inner]]
    return float(chosen.mean()) if chosen.size else float("nan")


def ssim_map(
    predicted: Float[np.ndarray, "H W 3"], true: Float[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"] | None = None
) -> Float[np.ndarray, "H W 3"]:
    """Similarity at every pixel and channel; meaningless within half a window of the border."""
    a, b = predicted.astype(np.float64), true.astype(np.float64)
    weight = np.ones(a.shape[:2]) if mask is None else mask.astype(np.float64)
    total = np.maximum(_blurred(weight), 1e-12)[..., None]

    def local_mean(values: np.ndarray) -> np.ndarray:
        return _blurred(values * weight[..., None]) / total

    mean_a, mean_b = local_mean(a), local_mean(b)
    variance_a = local_mean(a * a) - mean_a**2
    variance_b = local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = _K1**2, _K2**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)


def _blurred(values: np.ndarray) -> np.ndarray:
    """Gaussian window over the first two axes."""
    from scipy.ndimage import correlate1d

    offset = np.arange(SSIM_WINDOW_PX) - SSIM_WINDOW_PX // 2
    kernel = np.exp(-0.5 * (offset / SSIM_SIGMA_PX) ** 2)
    kernel /= kernel.sum()
    return correlate1d(correlate1d(values, kernel, axis=0), kernel, axis=1)
