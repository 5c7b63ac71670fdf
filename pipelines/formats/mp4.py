"""H.264 video that every player opens (yuv420p, even sides)."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pipelines.errors import WorkspaceError

AddPicture = Callable[[np.ndarray], None]
"""Appends one RGB picture, uint8 (h, w, 3)."""


@contextmanager
def mp4_writer(path: Path, width: int, height: int, fps: float, *, crf: int = 10) -> Generator[AddPicture, None, None]:
    """`with mp4_writer(path, w, h, fps) as add: add(rgb) ...`; odd sides are padded by repeating the edge, which 4:2:0 colour
    needs. crf: x264's constant rate factor, smaller for more quality; 10 is hardly told from the original.

    Raises WorkspaceError: the encoder failed (disk full), which it may do only when the last pictures are written.
    """
    import imageio_ffmpeg

    padding = ((0, height % 2), (0, width % 2), (0, 0))
    size = (width + width % 2, height + height % 2)
    writer = imageio_ffmpeg.write_frames(
        str(path),
        size,
        fps=fps or 12.0,
        codec="libx264",
        quality=None,
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=["-crf", str(crf), "-preset", "medium"],
    )

    def add(picture: UInt8[np.ndarray, "h w 3"]) -> None:
        writer.send(np.ascontiguousarray(np.pad(picture, padding, mode="edge")))

    try:
        writer.send(None)
        yield add
    except OSError as error:
        raise WorkspaceError(f"the video {path} could not be written ({error}): is the disk full?") from None
    finally:
        writer.close()
    if not _is_readable(path):
        raise WorkspaceError(f"the video {path} could not be finished: is the disk full?")


def _is_readable(path: Path) -> bool:
    """The table of contents is written last; a film without a picture has none, and is none."""
    import imageio_ffmpeg

    if not path.is_file():
        return True
    reader = imageio_ffmpeg.read_frames(str(path))
    try:
        return bool(next(reader))
    except OSError:
        return False
    finally:
        reader.close()
