"""The mask overlay video: each object tinted and outlined in its palette colour, with its number."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pipelines.artifacts import UNKNOWN, Video
from pipelines.caption import caption
from pipelines.formats.mp4 import mp4_writer
from pipelines.palette_png import palette
from pipelines.progress import Progress

TINT = 0.45
"""Share of the object's colour in the overlay."""
MIN_HEIGHT_PX = 240
"""Smaller videos are enlarged, so that the numbers can be read."""
OVERLAY_CRF = 15
"""Flat tints and outlines bear more compression than pictures."""


def write_overlay(path: Path, video: Video, maps: UInt8[np.ndarray, "T H W"], progress: Progress) -> None:
    """Write an H.264 video that shows at a glance what was found.

    Raises WorkspaceError: the encoder failed (disk full).
    """
    factor = max(1, -(-MIN_HEIGHT_PX // video.height))
    with (
        mp4_writer(path, video.width * factor, video.height * factor, video.fps, crf=OVERLAY_CRF) as add,
        progress.task("overlay", video.n_frames) as advance,
    ):
        for picture in _pictures(video, maps, factor):
            add(picture)
            advance(1)


def _pictures(video: Video, maps: UInt8[np.ndarray, "T H W"], factor: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    for image, labels in zip(video, maps, strict=True):
        enlarged = (np.repeat(np.repeat(a, factor, 0), factor, 1) for a in (image, labels))
        yield draw_overlay(*enlarged)


def draw_overlay(image: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """One frame with its objects tinted, outlined and numbered; unknown pixels are greyed."""
    colours = palette()
    picture = image.copy()
    covered = labels > 0
    tinted = (1 - TINT) * image[covered] + TINT * colours[labels[covered]]
    picture[covered] = tinted.astype(np.uint8)
    for label in np.unique(labels[covered]):
        colour = tuple(int(c) for c in colours[label])
        mask = (labels == label).astype(np.uint8)
        _outline(picture, mask, colour)
        if label != UNKNOWN:
            picture = caption(picture, str(label), _thickest(mask), size_px=picture.shape[0] // 22, anchor="mm")
    return picture


def _outline(picture: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"], colour: tuple[int, ...]) -> None:
    import cv2

    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, max(1, picture.shape[0] // 240))


def _thickest(mask: UInt8[np.ndarray, "H W"]) -> tuple[int, int]:
    """Pixel (x, y) of a mask that is farthest from its border."""
    import cv2

    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return int(x), int(y)
