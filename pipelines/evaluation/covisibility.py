"""Which pixels of a held-out view the filmed frames show often enough to be judged (DyCheck: Gao et al., NeurIPS 2022).

A pixel is seen in a filmed frame where the optical flow there and back again returns to it:
|f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5 px^2, with b the flow back at the pixel's target (Sundaram et al., ECCV 2010).
It counts where that holds for at least 5 filmed frames, or a tenth of them if that is more.
"""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipelines.geometry import pixel_centres

_RELATIVE, _ABSOLUTE_PX2 = 0.01, 0.5
MIN_FRAMES = 5
MIN_SHARE = 0.1

FlowOf = Callable[[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]], Float[np.ndarray, "H W 2"]]
"""Optical flow in px from the first image to the second."""


def returns(forward_px: Float[np.ndarray, "H W 2"], backward_px: Float[np.ndarray, "H W 2"]) -> Bool[np.ndarray, "H W"]:
    """Where forward and backward flow cancel. A target outside the picture does not."""
    import cv2

    height, width = forward_px.shape[:2]
    target = (pixel_centres(width, height) + forward_px).astype(np.float32)
    inside = (target >= 0).all(-1) & (target <= [width, height]).all(-1)
    # OpenCV's coordinates count from the first pixel's centre.
    index = target - np.float32(0.5)
    back = cv2.remap(backward_px.astype(np.float32), index, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    squared = np.square(forward_px).sum(-1) + np.square(back).sum(-1)
    return inside & (np.square(forward_px + back).sum(-1) < _RELATIVE * squared + _ABSOLUTE_PX2)


def covisible(
    view: UInt8[np.ndarray, "H W 3"], filmed: Iterable[UInt8[np.ndarray, "H W 3"]], flow: FlowOf
) -> Bool[np.ndarray, "H W"]:
    """Pixels of the view that enough filmed frames show."""
    seen = [returns(flow(view, frame), flow(frame, view)) for frame in filmed]
    needed = max(MIN_FRAMES, int(MIN_SHARE * len(seen)))
    return np.sum(seen, axis=0) >= needed if seen else np.zeros(view.shape[:2], bool)


def dis_flow(first: UInt8[np.ndarray, "H W 3"], second: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 2"]:
    """Dense inverse search (OpenCV), which needs no weights."""
    import cv2

    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
