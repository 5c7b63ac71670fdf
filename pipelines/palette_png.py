"""Label maps as palette PNG (the DAVIS convention): the index is the label, the palette is for people."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipelines.errors import InputError


def palette() -> UInt8[np.ndarray, "256 3"]:
    """DAVIS / PASCAL VOC colours: bit b of the label goes to bit 7 - b // 3 of channel b % 3. Label 255 is made grey."""
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= (((labels >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    colours[255] = 128
    return colours


def write(path: Path, labels: UInt8[np.ndarray, "H W"]) -> None:
    image = Image.fromarray(labels, mode="P")
    image.putpalette(palette().ravel().tolist())
    image.save(path)


def read(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Labels of a palette, grey-scale or black-and-white PNG, or of a colour one that is grey all over.

    Raises InputError for other images: a colour says nothing about which object a pixel is.
    """
    try:
        with Image.open(path) as image:
            if image.mode in ("P", "L", "1"):
                return np.array(image, np.uint8)
            pixels = np.array(image.convert("RGBA")) if image.mode in ("LA", "RGB", "RGBA") else None
            if pixels is None or (pixels[..., 1:3] != pixels[..., :1]).any() or (pixels[..., 3] != 255).any():
                raise InputError(f"{path} is a {image.mode} image: label maps are palette or grey-scale PNG")
            return pixels[..., 0]
    except OSError as error:
        raise InputError(f"{path} is not a readable label map ({error})") from None
