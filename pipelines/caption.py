"""Words in a picture, legible on any background.

By Pillow: since version 5 OpenCV's letters are wider the thicker they are, so that a rim drawn first doesn't lie under them.
"""

from typing import Literal

import numpy as np
from jaxtyping import UInt8

LEAST_SIZE_PX = 10


def caption(
    picture: UInt8[np.ndarray, "h w 3"],
    text: str,
    xy_px: tuple[int, int],
    *,
    size_px: int,
    anchor: Literal["la", "mm"] = "la",
) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of the picture with white letters, rimmed in black.

    anchor: what of the text lies at `xy_px`: its left upper corner ("la") or its middle ("mm").
    """
    from PIL import Image, ImageDraw, ImageFont

    size = max(LEAST_SIZE_PX, size_px)
    image = Image.fromarray(picture)
    font = ImageFont.load_default(size)
    rim = max(1, size // 10)
    ImageDraw.Draw(image).text(xy_px, text, (255,) * 3, font, anchor, stroke_width=rim, stroke_fill=(0,) * 3)
    return np.array(image)
