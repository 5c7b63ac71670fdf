"""Footage of every kind, good and bad."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from pipelines.artifacts import Video
from pipelines.errors import InputError
from pipelines.frames import FramesConfig, extract_frames
from pipelines.stage import ItemCache, StageContext

Extract = Callable[..., Video]


@pytest.fixture
def extract(tmp_path: Path, notes) -> Extract:
    def run(source: Path, **options) -> Video:
        out = tmp_path / "frames"
        out.mkdir()
        return extract_frames(FramesConfig(**options), source=source, context=StageContext(out, ItemCache(tmp_path), notes))

    return run


def movie(path: Path, *arguments: str, n_frames: int = 24, size: str = "96x64", rate: int = 12) -> Path:
    """A lossless test video whose frame t has the luma 16 + 4 t (16 is black in video)."""
    source = f"nullsrc=size={size}:rate={rate},geq=lum='16+4*N':cb=128:cr=128"
    command = [get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", source, "-frames:v", str(n_frames)]
    subprocess.run([*command, "-c:v", "ffv1", "-pix_fmt", "gray", *arguments, str(path)], check=True)
    return path


def levels(video: Video) -> list[int]:
    """Frame numbers of the source, read off the grey levels."""
    return [round(float(image.mean()) * 219 / 255 / 4) for image in video]


def test_every_frame_of_a_short_video(tmp_path, extract):
    video = extract(movie(tmp_path / "ä clip.mkv"))
    assert (video.width, video.height, video.n_frames, video.fps) == (96, 64, 24, 12.0)
    assert levels(video) == list(range(24))
    assert Video.load(video.folder) == video


def test_thinned_to_max_frames(tmp_path, extract, notes):
    video = extract(movie(tmp_path / "clip.mkv"), max_frames=12)
    assert levels(video) == list(range(0, 24, 2))
    assert video.fps == 6.0
    assert notes.said == ["one in 2 frames is kept (6 of 12 per second)"]


def test_thinning_stops_and_the_rest_is_cut_with_a_note(tmp_path, extract, notes):
    video = extract(movie(tmp_path / "clip.mkv"), max_frames=6)
    assert levels(video) == [0, 2, 4, 6, 8, 10]
    assert "only the part from 0.0 to 1.0 s is used (6 frames)" in notes.said[1]


def test_start_and_end(tmp_path, extract):
    assert levels(extract(movie(tmp_path / "clip.mkv"), start_s=0.5, end_s=1.5)) == list(range(6, 18))


def test_wanted_rate(tmp_path, extract):
    assert levels(extract(movie(tmp_path / "clip.mkv"), fps=4)) == list(range(0, 24, 3))


def test_large_frames_are_reduced_to_even_sizes(tmp_path, extract):
    video = extract(movie(tmp_path / "clip.mkv", size="301x201"), max_side=100)
    assert (video.width, video.height) == (100, 66)
    assert video.filmed_width == 301
    assert Video.load(video.folder) == video


def test_rotation_metadata_are_honoured(tmp_path, extract):
    upright = movie(tmp_path / "upright.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    turned = tmp_path / "turned.mp4"
    command = [get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", str(upright), "-c", "copy", str(turned)]
    subprocess.run(command, check=True)
    video = extract(turned)
    assert (video.width, video.height) == (64, 96)


def test_frames_of_a_varying_rate_are_taken_evenly_in_time(tmp_path, extract, notes):
    """The second half has a third of the first one's frames."""
    uneven = ["-vf", "select='lt(n,24)+not(mod(n,3))'", "-fps_mode", "vfr"]
    video = extract(movie(tmp_path / "clip.mkv", *uneven, n_frames=32, rate=24), fps=8)
    assert levels(video) == pytest.approx(np.arange(video.n_frames) * 24 / video.fps, abs=2)
    assert video.n_frames >= 12
    assert "its frames are not evenly spaced in time" in notes.said[-1]


def test_pixels_that_are_not_square_become_so(tmp_path, extract):
    video = extract(movie(tmp_path / "clip.mp4", "-vf", "setsar=2", "-c:v", "libx264", "-pix_fmt", "yuv420p"))
    assert (video.width, video.height, video.filmed_width) == (192, 64, 192)


def test_interlaced_film_has_whole_frames(tmp_path, extract):
    """A bar moves on between the even and the odd lines."""
    bar = "geq=lum='if(lt(mod(X-8*N-4*mod(Y,2)+96,96),20),200,50)':cb=128:cr=128,setfield=tff"
    video = extract(movie(tmp_path / "clip.mp4", "-vf", bar, "-c:v", "libx264", "-flags", "+ildct", "-pix_fmt", "yuv420p"))
    assert video.n_frames == 24
    frame = video.frame(12).astype(float)
    comb = np.abs(2 * frame[1:-1] - frame[:-2] - frame[2:])
    assert (comb > 150).mean() < 0.02, "8 of 96 columns alternate in what was filmed"


def test_a_folder_of_images_in_natural_order(tmp_path, extract):
    folder = tmp_path / "images"
    folder.mkdir()
    for t in range(12):
        cv2.imwrite(str(folder / f"frame{t}.png"), np.full((64, 80, 3), round(4 * t * 255 / 219), np.uint8))
    (folder / "notes.txt").write_text("not an image")
    video = extract(folder)
    assert levels(video) == list(range(12))
    assert video.fps == 24
    assert video.reduction == 1


def test_sound_that_is_longer_than_the_picture_is_no_damage(tmp_path, extract):
    """Nor are fewer frames than the rate promises, as phones film them."""
    picture, longer = movie(tmp_path / "picture.mkv"), tmp_path / "longer.mkv"
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=6"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-i", str(picture), *sound, "-c:v", "copy", str(longer)], check=True)
    assert extract(longer).n_frames >= 20


def test_channels_are_red_green_blue(tmp_path, extract):
    folder = tmp_path / "images"
    folder.mkdir()
    for t in range(5):
        cv2.imwrite(str(folder / f"{t}.png"), np.full((64, 64, 3), (10, 20, 30), np.uint8))
    assert extract(folder).frame(0)[0, 0].tolist() == [30, 20, 10]


def text_file(folder: Path) -> Path:
    (folder / "text.mp4").write_text("this is no video")
    return folder / "text.mp4"


def empty_file(folder: Path) -> Path:
    (folder / "empty.mp4").write_bytes(b"")
    return folder / "empty.mp4"


def empty_folder(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    return folder / "nothing"


def headless(folder: Path) -> Path:
    """An mp4 whose index, at the end, was lost."""
    whole = movie(folder / "whole.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    (folder / "cut.mp4").write_bytes(whole.read_bytes()[:1500])
    return folder / "cut.mp4"


def half(folder: Path) -> Path:
    """An mp4 whose index, in front, promises more frames than there are."""
    noisy = ("-vf", "noise=alls=60:allf=t", "-movflags", "+faststart", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    whole = movie(folder / "whole.mp4", *noisy, n_frames=60)
    content = whole.read_bytes()
    (folder / "half.mp4").write_bytes(content[: len(content) // 2])
    return folder / "half.mp4"


def sound_only(folder: Path) -> Path:
    path = folder / "sound.mp4"
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", str(path)], check=True)
    return path


def uneven_folder(folder: Path) -> Path:
    place = folder / "uneven"
    place.mkdir()
    for t in range(6):
        cv2.imwrite(str(place / f"{t}.png"), np.zeros((64 + t // 3, 64, 3), np.uint8))
    return place


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.mp4", "does not exist: give a video file"),
        (text_file, "is not a video that can be decoded"),
        (empty_file, r"is empty \(0 bytes\)"),
        (empty_folder, "holds no images"),
        (headless, "is not a video that can be decoded"),
        (half, "is truncated or damaged: .* copy it again, or use its readable part with --end"),
        (sound_only, "has sound but no picture"),
        (uneven_folder, "all frames of a video have one size"),
        (lambda folder: movie(folder / "one.mkv", n_frames=1), r"has 1 frame\(s\)|does not say its frame rate or duration"),
        (lambda folder: movie(folder / "tiny.mkv", size="8x8"), "is 8x8 px: frames need at least 64 px"),
    ],
)
def test_bad_footage_is_one_clear_error(tmp_path, extract, make, message):
    with pytest.raises(InputError, match=message) as caught:
        extract(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"), [({"start_s": 5.0}, "is after the end"), ({"start_s": 1.0, "end_s": 0.5}, "is not after --start")]
)
def test_a_range_outside_the_video(tmp_path, extract, options, message):
    with pytest.raises(InputError, match=message):
        extract(movie(tmp_path / "clip.mkv"), **options)
