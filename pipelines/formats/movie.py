"""A film as evenly timed frames of square pixels, decoded by ffmpeg."""

import contextlib
import logging
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pipelines.errors import InputError

SQUARE = "scale=iw*sar:ih"
"""ffmpeg's filter after which a pixel is as wide as it is high."""

# It warns of frames that are decoded at another size than their source's, which is what is asked for here.
logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Movie:
    """What a film says of itself. width, height: as shown, px (turned, and with square pixels); fps: on average."""

    path: Path
    width: int
    height: int
    fps: float
    duration_s: float
    is_interlaced: bool

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
        return Movie(path, width, height, float(described["fps"]), float(described["duration"]), is_interlaced)

    def is_uneven(self, start_s: float, end_s: float) -> bool:
        """Whether this part has another rate than the average, or a frame more than one away from where even spacing would have
        it (phones film so in the dark, screens are recorded so). Reads the file, decodes nothing."""
        # Packets come in the order of decoding: beyond the end, or what is shown before it would be missing.
        listing = ["-to", str(end_s + 2), "-i", str(self.path), "-map", "0:v:0", "-c", "copy", "-f", "framecrc", "-"]
        lines = _ffmpeg(*listing).stdout.decode().splitlines()
        unit = next((float(Fraction(line.split()[-1])) for line in lines if line.startswith("#tb 0:")), 1.0)
        times = np.sort([int(line.split(",")[2]) for line in lines if not line.startswith("#")]) * unit
        times = times[(times >= start_s) & (times <= end_s)]
        if len(times) < 3:
            return False
        even = np.linspace(times[0], times[-1], len(times))
        is_as_told = abs((len(times) - 1) / (times[-1] - times[0]) / self.fps - 1) < 0.01
        return not is_as_told or bool(np.abs(times - even).max() > np.median(np.diff(times)))

    def frames(
        self, start_s: float, end_s: float, *, stride: int, size: tuple[int, int], most: int, by_time: bool
    ) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """One in `stride` frames, RGB, of `size` = (width, height). by_time: those nearest to evenly spaced times, instead of
        by their number."""
        from imageio_ffmpeg import read_frames

        width, height = size
        filters = [
            *(["bwdif=mode=send_frame:deint=interlaced"] if self.is_interlaced else []),
            f"fps={self.fps / stride:.9g}" if by_time else f"select=not(mod(n\\,{stride}))",
            f"scale={width}:{height}:flags=area",
        ]
        reader = read_frames(
            str(self.path),
            input_params=["-ss", str(start_s), "-to", str(end_s)] if start_s or end_s < self.duration_s else [],
            output_params=["-vf", ",".join(filters), "-fps_mode", "passthrough", "-frames:v", str(most)],
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


def _ffmpeg(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    from imageio_ffmpeg import get_ffmpeg_exe

    return subprocess.run([get_ffmpeg_exe(), "-v", "error", *arguments], capture_output=True, check=False)
