"""Each object's motion as a dense field of its own, and how well every pixel agrees with it.

Symbols: frame t, other frame u, object g, pixel p; f_g(p) the displacement from t to u that p would have on object g, in px.

f_g is a first-order normalised convolution (Knutsson & Westin, CVPR 1993) of the optical flow at pixels that are known to be on
the object: a local affine motion, which follows perspective and curved surfaces and extends a little beyond the object's edge.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.geometry import along_flow

REDUCTION = 4
"""Motion fields are smooth, so they are computed on a grid this much coarser."""
WIDE, WIDE_WEIGHT = 4, 1e-2
"""Where none of the object is near, its motion comes from a window this many times wider ..."""
GLOBAL_WEIGHT = 1e-4
"""... and beyond that from all of it: a camera that turns moves the background also where no track of it lives."""
FLAT_GRADIENT = 2.7
"""Grey levels per px, in the direction of least change, at which flow counts half: bare surfaces take their neighbours'."""
RIDGE = 1e-3
"""Keeps the local affine fit solvable where the object's pixels lie on a line; it falls back to the mean."""


@dataclass(frozen=True)
class LayerMotion:
    """f_g in px, and how much of the object is near each pixel (local window only; 0 ... 1 inside)."""

    flow_px: Float[np.ndarray, "H W 2"]
    support: Float[np.ndarray, "H W"]


def layer_motion(flow_px: Float[np.ndarray, "H W 2"], weight: Float[np.ndarray, "H W"], sigma_px: float) -> LayerMotion:
    """Local affine fit of the flow, weighted by `weight` and a Gaussian of the given width with weak tails."""
    import cv2

    height, width = weight.shape
    size = (-(-width // REDUCTION), -(-height // REDUCTION))
    w = cv2.resize(weight.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    weighted = cv2.resize((flow_px * weight[..., None]).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float32) - size[0] / 2, np.arange(size[1], dtype=np.float32) - size[1] / 2)
    sigma = sigma_px / REDUCTION

    def local(image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)

    def blurred(image: np.ndarray) -> np.ndarray:
        small = cv2.resize(image, (-(-size[0] // WIDE), -(-size[1] // WIDE)), interpolation=cv2.INTER_AREA)
        wide = cv2.resize(local(small), size, interpolation=cv2.INTER_LINEAR)
        return local(image) + WIDE_WEIGHT * wide + GLOBAL_WEIGHT * image.mean((0, 1))

    mass = blurred(w) + 1e-12
    # Weighted covariance of position with itself and with the flow, about the local centroid.
    mean_x, mean_y = blurred(w * x) / mass, blurred(w * y) / mass
    mean_flow = blurred(weighted) / mass[..., None]
    xx = blurred(w * x * x) / mass - mean_x**2 + RIDGE * sigma**2
    yy = blurred(w * y * y) / mass - mean_y**2 + RIDGE * sigma**2
    xy = blurred(w * x * y) / mass - mean_x * mean_y
    flow_x = blurred(weighted * x[..., None]) / mass[..., None] - mean_x[..., None] * mean_flow
    flow_y = blurred(weighted * y[..., None]) / mass[..., None] - mean_y[..., None] * mean_flow
    determinant = np.maximum(xx * yy - xy**2, 1e-9)[..., None]
    slope_x = (yy[..., None] * flow_x - xy[..., None] * flow_y) / determinant
    slope_y = (xx[..., None] * flow_y - xy[..., None] * flow_x) / determinant
    reach_x, reach_y = 2 * np.maximum(sigma, np.sqrt(xx)), 2 * np.maximum(sigma, np.sqrt(yy))
    step_x = np.clip(x - mean_x, -reach_x, reach_x)[..., None]
    step_y = np.clip(y - mean_y, -reach_y, reach_y)[..., None]
    field = mean_flow + slope_x * step_x + slope_y * step_y
    full = cv2.resize(field.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    support = cv2.resize(local(w).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return LayerMotion(full, support)


def photometric_cost(
    image: UInt8[np.ndarray, "H W 3"],
    other: UInt8[np.ndarray, "H W 3"],
    flow_px: Float[np.ndarray, "H W 2"],
    *,
    tolerance: float,
    cap: float,
    window_px: int,
) -> Float[np.ndarray, "H W"]:
    """Mean absolute colour difference along the flow in units of `tolerance`, at most `cap`, averaged over a window.

    Pixels that leave the image cost `cap` / 4, more than what fits and less than what does not: nothing is known of them.
    """
    import cv2

    height, width = image.shape[:2]
    to_column, to_row = along_flow(flow_px)
    warped = cv2.remap(other, to_column, to_row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cost = np.minimum(cv2.absdiff(image, warped).astype(np.float32).mean(-1) / tolerance, cap)
    outside = (to_column < 0) | (to_column > width - 1) | (to_row < 0) | (to_row > height - 1)
    cost[outside] = cap / 4
    return cv2.blur(cost, (window_px, window_px))


def flow_confidence(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    """How much of the flow comes from the pixel itself, 0 ... 1: texture in both directions (Shi & Tomasi, CVPR 1994)."""
    import cv2

    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.0)
    # OpenCV scales so that a gradient of g grey levels per px everywhere gives 4 g^2 with this window.
    weakest = cv2.cornerMinEigenVal(grey, 5) / 4
    return weakest / (weakest + FLAT_GRADIENT**2)
