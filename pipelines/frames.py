"""Stage `frames`: a video, or a folder of images, becomes numbered PNG frames of a workable size and number."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from pipelines.artifacts import Video
from pipelines.errors import InputError
from pipelines.formats.movie import Movie
from pipelines.stage import StageConfig, StageContext

VERSION = 2
MIN_FRAMES = 5
MIN_SIDE_PX = 64
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}


class Footage(NamedTuple):
    """What was filmed, at the working size and rate. width: of the source, px."""

    images: Iterator[UInt8[np.ndarray, "H W 3"]]
    fps: float
    width: int


class FramesConfig(StageConfig):
    """Which part of the footage is used, and at which size."""

    start_s: float = Field(0.0, ge=0)
    """Seconds from the beginning of the video (frame number / fps for a folder of images)."""
    end_s: float | None = Field(None, gt=0)
    fps: float | None = Field(None, gt=0)
    """Frames per second to keep. Unset: every frame, or as few as `max_frames` asks for, evenly spaced."""
    max_frames: int = Field(100, ge=MIN_FRAMES)
    min_fps: float = Field(6.0, gt=0)
    """Thinning out for `max_frames` stops here; what is left over at the end is cut off, and said."""
    max_side: int = Field(854, ge=MIN_SIDE_PX)
    """Longer side of the working frames, px. Smaller footage is never enlarged."""
    images_fps: float = Field(24.0, gt=0)
    """Frame rate of a folder of images."""


def extract_frames(config: FramesConfig, *, source: Path, context: StageContext) -> Video:
    """Write `%06d.png` and `video.json`. Rotation and the shape of pixels are honoured; RGB, 8 bit.

    Raises InputError: missing, unreadable, truncated, too short or too small footage.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist: give a video file or a folder of images")
    if config.end_s is not None and config.end_s <= config.start_s:
        raise InputError(f"--end {config.end_s:g} s is not after --start {config.start_s:g} s: nothing is left of the video")
    footage = _folder(source, config, context) if source.is_dir() else _movie(source, config, context)
    shape: tuple[int, ...] | None = None
    n_frames = 0
    with context.progress.task("frames", config.max_frames) as advance:
        for image in footage.images:
            shape = shape or image.shape
            _write_png(context.out / f"{n_frames:06d}.png", image)
            n_frames += 1
            advance(1)
    if shape is None or n_frames < MIN_FRAMES:
        raise InputError(f"{source} has {n_frames} frame(s) in the chosen range: at least {MIN_FRAMES} are needed")
    height, width = shape[:2]
    video = Video(context.out, width, height, n_frames, footage.fps, source.name, filmed_width=footage.width)
    video.save()
    return video


def _write_png(path: Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    import cv2

    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    encoded.tofile(path)


def _working_size(width: int, height: int, config: FramesConfig, source: Path) -> tuple[int, int]:
    """Size of the frames; even numbers when resized, because video encoders ask for them."""
    factor = min(1.0, config.max_side / max(width, height))
    if min(width, height) * factor < MIN_SIDE_PX:
        raise InputError(f"{source} is {width}x{height} px: frames need at least {MIN_SIDE_PX} px on their shorter side")
    return (width, height) if factor == 1 else (2 * round(width * factor / 2), 2 * round(height * factor / 2))


def _stride(n_frames: float, fps: float, config: FramesConfig) -> int:
    """Every how many frames one is kept."""
    if config.fps is not None:
        return max(1, round(fps / config.fps))
    wanted = int(np.ceil(n_frames / config.max_frames - 1e-6))
    return max(1, min(wanted, int(fps / config.min_fps)))


def _note_cut(n_available: float, fps: float, stride: int, config: FramesConfig, context: StageContext) -> None:
    if stride > 1:
        context.progress.note(f"one in {stride} frames is kept ({fps / stride:.3g} of {fps:.3g} per second)")
    if n_available / stride > config.max_frames + 1:
        last_s = config.start_s + config.max_frames * stride / fps
        context.progress.note(
            f"only the part from {config.start_s:.1f} to {last_s:.1f} s is used ({config.max_frames} frames):"
            " choose another with --start/--end, or raise --max-frames"
        )


def _movie(source: Path, config: FramesConfig, context: StageContext) -> Footage:
    """A video file, read through ffmpeg."""
    movie = Movie.open(source)
    end_s = min(config.end_s or np.inf, movie.duration_s)
    if config.start_s >= end_s:
        raise InputError(f"--start {config.start_s:g} s is after the end of {source} ({movie.duration_s:g} s)")
    n_available = (end_s - config.start_s) * movie.fps
    stride = _stride(n_available, movie.fps, config)
    _note_cut(n_available, movie.fps, stride, config, context)
    size = _working_size(movie.width, movie.height, config, source)
    by_time = movie.is_uneven(config.start_s, end_s)
    if by_time:
        even = f"the nearest to {movie.fps / stride:.3g} per second are used"
        context.progress.note(f"its frames are not evenly spaced in time: {even}")
    n_expected = min(n_available / stride, config.max_frames)

    def decode() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        n_decoded = 0
        for image in movie.frames(config.start_s, end_s, stride=stride, size=size, most=config.max_frames, by_time=by_time):
            n_decoded += 1
            yield image
        if n_decoded < 0.9 * n_expected - 2 and movie.is_damaged():
            raise InputError(
                f"{source} is truncated or damaged: {n_decoded} of about {n_expected:.0f} frames can be decoded;"
                f" copy it again, or use its readable part with --end {config.start_s + n_decoded * stride / movie.fps:.1f}"
            )

    return Footage(decode(), movie.fps / stride, movie.width)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key under which frame10 comes after frame9."""
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", path.name)]


def _folder(source: Path, config: FramesConfig, context: StageContext) -> Footage:
    """Images of a folder in natural order, at the rate they are taken to have."""
    fps = config.images_fps
    paths = sorted((p for p in source.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=_natural)
    if not paths:
        raise InputError(f"{source} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}): give a video or a folder of frames")
    last = None if config.end_s is None else round(config.end_s * fps)
    chosen = paths[round(config.start_s * fps) : last]
    stride = _stride(float(len(chosen)), fps, config)
    _note_cut(float(len(chosen)), fps, stride, config, context)

    used = chosen[::stride][: config.max_frames]
    first = _image(used[0]).shape if used else (0, 0, 3)

    def read() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        import cv2

        for path in used:
            image = _image(path)
            if image.shape != first:
                raise InputError(
                    f"{path} is {image.shape[1]}x{image.shape[0]} px, the images before it {first[1]}x{first[0]}:"
                    " all frames of a video have one size"
                )
            size = _working_size(image.shape[1], image.shape[0], config, path)
            yield image if size == image.shape[1::-1] else cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    return Footage(read(), fps / stride, first[1])


def _image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    import cv2

    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if image is None:
        raise InputError(f"{path} is not a readable image: remove or replace it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
