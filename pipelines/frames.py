"""Stage `frames`: a video, or a folder of images, becomes numbered PNG frames of a workable size and number."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from pydantic import Field

from pipelines.artifacts import Video
from pipelines.errors import InputError
from pipelines.formats.movie import Box, Movie, can_map_tones
from pipelines.spread import evenly_spread
from pipelines.stage import StageConfig, StageContext

MIN_FRAMES = 5
MIN_SIDE_PX = 64
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
REPEATED, DIFFERENT = 0.2, 0.4
"""A frame repeats the one before where it changes less than this part of what frames that differ change by (strongly compressed
repeats had up to 0.12, frames that differed 0.6 and more). Hardly any frame lies between the two ..."""
MOST_BETWEEN = 0.1
"""... compared with the repeats, or it is a slow motion."""
LONGEST_REPEAT_S = 0.15
"""What repeats for longer is a pause of what was filmed."""
FEWEST_REPEATS, MOST_REPEATS = 0.03, 0.8
"""Share of the frames that must repeat for it to be a habit of the film, and above which little else is left."""
BLACK_LEVEL = 24
"""Of 255: bars stay below it."""
MIN_BAR_SHARE = 0.02
"""Of the picture's side: narrower bars are left, and so much may those of two sides differ to count as the same."""
BAR_END_SHARE = 0.5
"""A bar ends at once over this part of its length. A dark sky does not."""
MIN_PICTURE_SHARE = 0.4
"""Of a side: bars never leave less."""
LOOKED_AT = 8
"""Images of a folder in which bars are looked for."""


class Footage(NamedTuple):
    """What was filmed, at the working size and rate. width, height: of the source, px; crop: what is kept of it."""

    images: Iterator[UInt8[np.ndarray, "H W 3"]]
    fps: float
    width: int
    height: int
    crop: Box | None


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
    crop_bars: bool = True
    """Cut off black bars beside the picture."""
    drop_repeats: bool = True
    """Leave out a film's frames that repeat the one before, as in film shown at the rate of television or screen recordings."""


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
    kept = footage.crop or Box(0, 0, footage.width, footage.height)
    shown = (
        kept.left / footage.width,
        kept.top / footage.height,
        (kept.left + kept.width) / footage.width,
        (kept.top + kept.height) / footage.height,
    )
    video = Video(context.out, width, height, n_frames, footage.fps, source.name, kept.width, shown, config.start_s)
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
    timing = _timing(movie, end_s, config)
    n_available = (end_s - config.start_s) * timing.fps
    if timing.repeated.any():
        context.progress.note(
            f"{timing.repeated.mean():.0%} of the frames only repeat the one before and are left out "
            "(--set frames.drop_repeats=false keeps them)"
        )
    _note_cut(n_available, timing.fps, timing.stride, config, context)
    if timing.is_uneven:
        even = f"the nearest to {timing.rate:.3g} per second are used"
        context.progress.note(f"its frames are not evenly spaced in time: {even}")
    if movie.is_hdr:
        colours = "is brought into ordinary colours" if can_map_tones() else "stays as it is: colours may look washed out"
        context.progress.note(f"its high dynamic range {colours}")
    crop = _crop(timing.brightest, movie.width, movie.height, config, context)
    size = _working_size(*((crop.width, crop.height) if crop else (movie.width, movie.height)), config, source)
    n_expected = min((end_s - config.start_s) * timing.rate, config.max_frames)

    def chosen() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        if timing.repeated.any():
            every = movie.frames(config.start_s, end_s, size=size, most=len(timing.repeated), crop=crop)
            fresh = (image for image, again in zip(every, timing.repeated, strict=False) if not again)
            return islice(fresh, 0, config.max_frames * timing.stride, timing.stride)
        fps = timing.rate if timing.is_uneven else None
        return movie.frames(config.start_s, end_s, size=size, stride=timing.stride, fps=fps, most=config.max_frames, crop=crop)

    def decode() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        n_decoded = 0
        for image in chosen():
            n_decoded += 1
            yield image
        if n_decoded < 0.9 * n_expected - 2 and movie.is_damaged():
            raise InputError(
                f"{source} is truncated or damaged: {n_decoded} of about {n_expected:.0f} frames can be decoded;"
                f" copy it again, or use its readable part with --end {config.start_s + n_decoded / timing.rate:.1f}"
            )

    return Footage(decode(), timing.rate, movie.width, movie.height, crop)


class Timing(NamedTuple):
    """Which frames of a film are used, as a survey of the part that they come from tells."""

    fps: float
    """Of the film without its repeats."""
    stride: int
    rate: float
    """Of the frames used, per second."""
    is_uneven: bool
    """Whether frames are chosen by time."""
    repeated: Bool[np.ndarray, " n"]
    """Of the part, frame by frame."""
    brightest: UInt8[np.ndarray, "h w"]


def _timing(movie: Movie, end_s: float, config: FramesConfig) -> Timing:
    """Looks at no more of the film than is used."""
    start_s = config.start_s

    def part(fps: float) -> tuple[int, float]:
        """Stride and end of the part that is used at this rate."""
        stride = _stride((end_s - start_s) * fps, fps, config)
        return stride, min(end_s, start_s + (config.max_frames + 1) * stride / fps)

    stride, used_s = part(movie.fps)
    survey, times = movie.survey(start_s, used_s), movie.times(start_s, used_s)
    none = np.zeros(len(survey.changes) + 1, bool)
    if movie.is_uneven(times):
        rate = _rate_of(times, movie.fps / stride, config.min_fps)
        return Timing(movie.fps, stride, rate, True, none, survey.brightest)
    repeated = repeats(survey.changes, movie.fps) if config.drop_repeats else none
    if not repeated.any():
        return Timing(movie.fps, stride, movie.fps / stride, False, none, survey.brightest)
    # There are fewer frames to a second now, so more seconds may be needed than were looked at.
    _, needed_s = part(movie.fps * (1 - float(repeated.mean())))
    survey = movie.survey(start_s, max(used_s, needed_s)) if needed_s > used_s else survey
    repeated = repeats(survey.changes, movie.fps)
    fps = movie.fps * (1 - float(repeated.mean()))
    stride, _ = part(fps)
    return Timing(fps, stride, fps / stride, False, repeated, survey.brightest)


def repeats(changes: Float[np.ndarray, " n"], fps: float) -> Bool[np.ndarray, " n+1"]:
    """Which frames only repeat the one before; none where that is no habit of the film.

    changes: of each frame but the first from the one before, in grey levels (`Survey.changes`).
    """
    none = np.zeros(len(changes) + 1, bool)
    if not len(changes):
        return none
    # Where up to 80 % are repeats, this is the middle of the others.
    usual = float(np.quantile(changes, 0.9))
    again = np.concatenate([[False], changes < REPEATED * usual])
    if ((changes >= REPEATED * usual) & (changes < DIFFERENT * usual)).sum() > MOST_BETWEEN * again.sum():
        return none
    edges = np.flatnonzero(np.diff(again.astype(int), prepend=0, append=0))
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        again[first:end] &= end - first <= LONGEST_REPEAT_S * fps
    return again if FEWEST_REPEATS <= again.mean() <= MOST_REPEATS else none


def _rate_of(times: Float[np.ndarray, " n"], wanted_fps: float, least_fps: float) -> float:
    """The rate at which no frame comes twice, at most the wanted one; pauses, in which nothing comes, don't count."""
    gaps_s = np.diff(times)
    gaps_s = gaps_s[(gaps_s > 0) & (gaps_s <= 1 / least_fps)]
    return min(wanted_fps, 1 / float(gaps_s.max())) if len(gaps_s) else wanted_fps


def bars(brightest: UInt8[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Rows and columns that stay black at the left, top, right and bottom, px; 0 where there is no bar.

    brightest: per pixel, of several frames. Bars of two opposite sides that are about as wide count as equal, because the
    optical axis is taken to pass through the middle of the picture.
    """
    lit = brightest >= BLACK_LEVEL
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    inner = lit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, bottom = _opposite(inner, int(rows[0]), int(len(lit) - 1 - rows[-1]))
    left, right = _opposite(inner.T, int(columns[0]), int(lit.shape[1] - 1 - columns[-1]))
    return left, top, right, bottom


def _opposite(inner: Bool[np.ndarray, "h w"], before: int, after: int) -> tuple[int, int]:
    """Bars above and below a picture, of so many black rows each."""
    height = before + len(inner) + after
    near = max(1, round(MIN_BAR_SHARE * height))

    def is_bar(width: int, edge: Bool[np.ndarray, "n w"]) -> bool:
        return width >= near and bool(edge.any(0).mean() >= BAR_END_SHARE)

    if len(inner) < MIN_PICTURE_SHARE * height:
        return 0, 0
    found = before * is_bar(before, inner[:near]), after * is_bar(after, inner[-near:])
    return (max(found), max(found)) if min(found) and abs(before - after) <= near else found


def _crop(
    brightest: UInt8[np.ndarray, "h w"], width: int, height: int, config: FramesConfig, context: StageContext
) -> Box | None:
    """What is left of pictures of that size without black bars. brightest: at that size, or smaller."""
    found = bars(brightest) if config.crop_bars else (0, 0, 0, 0)
    if not any(found):
        return None
    # The edge of a bar is blurred, in a smaller picture by up to one of its pixels; colours of films come in 2 x 2 px.
    factor = width / brightest.shape[1], height / brightest.shape[0]
    left, top, right, bottom = (2 * int(np.ceil((n + 1) * factor[i % 2] / 2)) if n else 0 for i, n in enumerate(found))
    box = Box(left, top, (width - left - right) // 2 * 2, (height - top - bottom) // 2 * 2)
    context.progress.note(
        f"black bars are cut off: {box.width}x{box.height} of {width}x{height} px are left (--set frames.crop_bars=false)"
    )
    return box


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
    height, width = _image(used[0]).shape[:2] if used else (0, 0)
    crop = _crop(_brightest(used, (height, width)), width, height, config, context) if used else None

    def read() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        import cv2

        for path in used:
            image = _image(path)
            if image.shape[:2] != (height, width):
                raise InputError(
                    f"{path} is {image.shape[1]}x{image.shape[0]} px, the images before it {width}x{height}:"
                    " all frames of a video have one size"
                )
            if crop is not None:
                image = image[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
            size = _working_size(image.shape[1], image.shape[0], config, path)
            yield image if size == image.shape[1::-1] else cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    return Footage(read(), fps / stride, width, height, crop)


def _brightest(paths: list[Path], shape: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """Per pixel the greatest brightness in some of the images; those of another size don't count."""
    import cv2

    some = (cv2.cvtColor(_image(paths[i]), cv2.COLOR_RGB2GRAY) for i in evenly_spread(np.arange(len(paths)), LOOKED_AT))
    return np.max([image for image in some if image.shape == shape], axis=0)


def _image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    import cv2

    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if image is None:
        raise InputError(f"{path} is not a readable image: remove or replace it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
