"""A film as evenly timed frames of square pixels, decoded by ffmpeg."""

import contextlib
import logging
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.errors import InputError

SQUARE = "scale=iw*sar:ih"
"""ffmpeg's filter after which a pixel is as wide as it is high."""

HDR_CURVES = ("arib-std-b67", "smpte2084")
"""Transfer curves of high dynamic range (HLG, PQ), as ffmpeg names them."""
TONE_MAPPING = (
    "format=yuv444p10,zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=mobius,"
    "zscale=t=bt709:m=bt709,format=yuv444p"
)
"""From high dynamic range to the colours of BT.709; white is 203 cd/m2 (ITU-R BT.2408). Any size will do where each pixel has
its own colour."""
SURVEY_SIDE_PX, SURVEY_BLOCK_PX, SURVEY_SPREAD = 640, 8, 8
"""Of a survey: longer side of its frames, side of the blocks that are compared, and frames whose brightness counts."""

# It warns of frames that are decoded at another size than their source's, which is what is asked for here.
logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)


class Survey(NamedTuple):
    """A part of a film at a glance: all of its frames, grey and small."""

    changes: Float[np.ndarray, " n"]
    """Of each frame but the first from the one before: the mean difference (grey levels) of the block that differs most."""
    brightest: UInt8[np.ndarray, "h w"]
    """Of a few frames, spread over the part."""


class Box(NamedTuple):
    """Part of a picture that is kept, px."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Movie:
    """What a film says of itself. width, height: as shown, px (turned, and with square pixels); fps: on average."""

    path: Path
    width: int
    height: int
    fps: float
    duration_s: float
    is_interlaced: bool
    is_hdr: bool

    @staticmethod
    def open(path: Path) -> "Movie":
        """Raises InputError when ffmpeg finds no picture in the file, or no times."""
        from imageio_ffmpeg import read_frames

        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes): copy or download the video again")
        try:
            reader = read_frames(str(path), output_params=["-vf", SQUARE])
            described = next(reader)
            reader.close()
        except (OSError, RuntimeError, IndexError) as error:
            if " Audio: " in str(error) and " Video: " not in str(error):
                raise InputError(f"{path} has sound but no picture: give a video file") from None
            raise InputError(
                f"{path} is not a video that can be decoded (truncated, or another kind of file):"
                " check that a player opens it, or convert it to mp4"
            ) from None
        if not described.get("fps") or not described.get("duration"):
            raise InputError(f"{path} does not say its frame rate or duration: convert it to mp4")
        width, height = described["size"]
        is_interlaced = " first" in described["pix_fmt"]
        is_hdr = any(curve in described["pix_fmt"] for curve in HDR_CURVES)
        return Movie(path, width, height, float(described["fps"]), float(described["duration"]), is_interlaced, is_hdr)

    def times(self, start_s: float, end_s: float) -> Float[np.ndarray, " n"]:
        """When the frames of this part are shown, s. Reads the file, decodes nothing."""
        # Packets come in the order of decoding: beyond the end, or what is shown before it would be missing.
        listing = ["-to", str(end_s + 2), "-i", str(self.path), "-map", "0:v:0", "-c", "copy", "-f", "framecrc", "-"]
        lines = _ffmpeg(*listing).stdout.decode().splitlines()
        unit = next((float(Fraction(line.split()[-1])) for line in lines if line.startswith("#tb 0:")), 1.0)
        times = np.sort([int(line.split(",")[2]) for line in lines if not line.startswith("#")]) * unit
        return times[(times >= start_s) & (times <= end_s)]

    def is_uneven(self, times: Float[np.ndarray, " n"]) -> bool:
        """Whether frames at these times have another rate than the film's average, or one of them is more than one away from
        where even spacing would have it (phones film so in the dark, screens are recorded so)."""
        if len(times) < 3:
            return False
        even = np.linspace(times[0], times[-1], len(times))
        is_as_told = abs((len(times) - 1) / (times[-1] - times[0]) / self.fps - 1) < 0.01
        return not is_as_told or bool(np.abs(times - even).max() > np.median(np.diff(times)))

    def survey(self, start_s: float, end_s: float) -> Survey:
        """Decodes all frames of this part."""
        import cv2

        factor = min(1.0, SURVEY_SIDE_PX / max(self.width, self.height))
        size = (max(1, round(self.width * factor)), max(1, round(self.height * factor)))
        blocks = (-(-size[0] // SURVEY_BLOCK_PX), -(-size[1] // SURVEY_BLOCK_PX))
        every = max(1, int((end_s - start_s) * self.fps / SURVEY_SPREAD))
        before, changes, brightest = None, [], np.zeros(size[::-1], np.uint8)
        for n, image in enumerate(self.frames(start_s, end_s, size=size)):
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            if n % every == every // 2:
                brightest = np.maximum(brightest, grey)
            if before is not None:
                difference = cv2.absdiff(grey, before).astype(np.float32)
                changes.append(float(cv2.resize(difference, blocks, interpolation=cv2.INTER_AREA).max()))
            before = grey
        return Survey(np.array(changes, float), brightest)

    def frames(
        self,
        start_s: float,
        end_s: float,
        *,
        size: tuple[int, int],
        stride: int = 1,
        fps: float | None = None,
        most: int | None = None,
        crop: Box | None = None,
    ) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """RGB, of `size` = (width, height): one in `stride` frames, or, with `fps`, those nearest to evenly spaced times.

        crop: what is kept of the picture as shown, before it gets that size.
        """
        from imageio_ffmpeg import read_frames

        width, height = size
        filters = [
            *(["bwdif=mode=send_frame:deint=interlaced"] if self.is_interlaced else []),
            f"select=not(mod(n\\,{stride}))" if fps is None else f"fps={fps:.9g}",
            *([] if crop is None else [SQUARE, f"crop={crop.width}:{crop.height}:{crop.left}:{crop.top}"]),
            f"scale={width}:{height}:flags=area",
            *([TONE_MAPPING] if self.is_hdr and can_map_tones() else []),
        ]
        limit = [] if most is None else ["-frames:v", str(most)]
        reader = read_frames(
            str(self.path),
            input_params=["-ss", str(start_s), "-to", str(end_s)] if start_s or end_s < self.duration_s else [],
            output_params=["-vf", ",".join(filters), "-fps_mode", "passthrough", *limit],
        )
        with contextlib.closing(reader):
            next(reader)
            for raw in reader:
                yield np.frombuffer(raw, np.uint8).reshape(height, width, 3)

    def is_damaged(self) -> bool:
        """Whether the pictures end before they should. Fewer of them than the duration promises are no sign of that: the sound
        may be longer, and the rate may vary."""
        done = _ffmpeg("-i", str(self.path), "-map", "0:v:0", "-f", "null", "-")
        return bool(done.returncode or done.stderr.strip())


def can_map_tones() -> bool:
    """Whether this ffmpeg brings high dynamic range into ordinary colours."""
    return b" zscale " in _ffmpeg("-filters").stdout


def _ffmpeg(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    from imageio_ffmpeg import get_ffmpeg_exe

    return subprocess.run([get_ffmpeg_exe(), "-v", "error", *arguments], capture_output=True, check=False)
