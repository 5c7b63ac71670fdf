"""Small pictures for the report: an object cut out of the frame that shows most of it, a place in a frame, rendered scenes."""

import io

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipelines.artifacts import Labels, Video
from pipelines.palette_png import palette
from pipelines.reporting.markup import data_uri

MARGIN_SHARE = 0.25
"""Surroundings of an object in its picture, as a share of its size."""


def jpeg_uri(image: UInt8[np.ndarray, "h w 3"], quality: int = 82) -> str:
    return _encoded(image, "JPEG", "image/jpeg", quality=quality)


def png_uri(image: UInt8[np.ndarray, "h w c"]) -> str:
    return _encoded(image, "PNG", "image/png", optimize=True)


def _encoded(image: np.ndarray, kind: str, media_type: str, **options: object) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return data_uri(media_type, stream.getvalue())


def enlarged(image: UInt8[np.ndarray, "h w 3"], width_px: int) -> UInt8[np.ndarray, "H W 3"]:
    """Resized to a width; pixels stay visible when a small cut-out grows."""
    import cv2

    height, width = image.shape[:2]
    size = (width_px, max(1, round(height * width_px / width)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if width_px < width else cv2.INTER_CUBIC)


def best_frame(labels: Labels, label: int) -> int:
    """The frame that shows most of an object whole: pixels count, those at the image border count against it."""
    seen = labels.maps == label
    area = seen.sum((1, 2))
    border = seen[:, [0, -1], :].sum((1, 2)) + seen[:, :, [0, -1]].sum((1, 2))
    return int(np.argmax(area - 10 * border))


def object_picture(video: Video, labels: Labels, label: int, width_px: int) -> UInt8[np.ndarray, "h w 3"]:
    """An object with its outline, cut out of its best frame in the video's aspect ratio; the background as a whole frame."""
    t = best_frame(labels, label)
    image, mask = video.frame(t), labels.maps[t] == label
    if label == 0 or not mask.any():
        return enlarged(image, width_px)
    top, bottom, left, right = _window(mask)
    picture = enlarged(image[top:bottom, left:right], width_px)
    return _outlined(picture, mask[top:bottom, left:right], palette()[label])


def _window(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int, int, int]:
    """Rows and columns about a mask, in the frame's aspect ratio and inside the frame."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    share = max(np.ptp(rows) / height, np.ptp(columns) / width, 8 / height) * (1 + 2 * MARGIN_SHARE)
    h, w = min(height, int(np.ceil(share * height))), min(width, int(np.ceil(share * width)))
    top = int(np.clip((rows[0] + rows[-1]) // 2 - h // 2, 0, height - h))
    left = int(np.clip((columns[0] + columns[-1]) // 2 - w // 2, 0, width - w))
    return top, top + h, left, left + w


def _outlined(
    picture: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "a b"], rgb: UInt8[np.ndarray, "3"]
) -> UInt8[np.ndarray, "h w 3"]:
    import cv2

    height, width = picture.shape[:2]
    grown = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(grown, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    picture = cv2.drawContours(picture.copy(), contours, -1, (255, 255, 255), 4)
    return cv2.drawContours(picture, contours, -1, tuple(int(c) for c in rgb), 2)


def place_picture(
    video: Video, labels: Labels, t: int, xy_px: tuple[float, float], width_px: int
) -> UInt8[np.ndarray, "h w 3"]:
    """A quarter of a frame about a pixel, with the objects' outlines and a cross at the pixel."""
    import cv2

    height, width = video.height, video.width
    h, w = max(2, height // 2), max(2, width // 2)
    x, y = xy_px
    left, top = int(np.clip(x - w / 2, 0, width - w)), int(np.clip(y - h / 2, 0, height - h))
    picture = enlarged(video.frame(t)[top : top + h, left : left + w], width_px)
    seen = labels.maps[t, top : top + h, left : left + w]
    for label in np.unique(seen[(seen > 0) & (seen < 255)]):
        picture = _outlined(picture, seen == label, palette()[label])
    factor = width_px / w
    at = (round((x - left) * factor), round((y - top) * factor))
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):
        cv2.drawMarker(picture, at, colour, cv2.MARKER_CROSS, width_px // 8, thickness)
    return picture


def heat_map(values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Values in [0, 1] in colours that grow evenly in lightness (viridis)."""
    import cv2

    grey = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def rendered_bytes(rgb: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A rendered view as bytes."""
    return np.round(255 * np.clip(rgb, 0, 1)).astype(np.uint8)
