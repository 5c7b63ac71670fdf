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
from pipelines.frames import BLACK_LEVEL, FramesConfig, bars, extract_frames, repeats
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


def textured(seed: int, height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    return np.clip(128 + 200 * cv2.GaussianBlur(noise, (0, 0), 1.5), 0, 255).astype(np.uint8)


def sliding(path: Path, *arguments: str, n_frames: int = 24, rate: int = 24) -> Path:
    """A compressed film of a textured wall that slides by 2 px a frame."""
    wall = textured(0, 96, 128 + 2 * n_frames)
    raw = b"".join(np.ascontiguousarray(wall[:, 2 * t : 2 * t + 128]).tobytes() for t in range(n_frames))
    command = [get_ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x96", "-r", str(rate)]
    encoder = ["-c:v", "libx264", "-threads", "1", "-crf", "26", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-i", "-", *arguments, *encoder, str(path)], input=raw, check=True)
    return path


@pytest.mark.parametrize("rate", [30, 60])
def test_frames_that_repeat_the_one_before_are_left_out(tmp_path, extract, notes, rate):
    """Film of 24 frames per second, shown at the rate of television."""
    video = extract(sliding(tmp_path / "film.mp4", "-vf", f"fps={rate}"))
    assert video.fps == pytest.approx(24, rel=0.03)
    assert video.n_frames == pytest.approx(24, abs=1)
    assert "of the frames only repeat the one before" in notes.said[0]
    slid = [np.abs(b.astype(float) - a).mean() for a, b in zip(video, list(video)[1:], strict=False)]
    assert min(slid) > 0.5 * np.median(slid), "no frame comes twice"


def test_repeats_can_be_kept_and_a_pause_is_none(tmp_path, extract):
    assert extract(sliding(tmp_path / "film.mp4", "-vf", "fps=60"), drop_repeats=False).fps == 60
    moves, rests = np.full(40, 50.0), np.full(30, 1.0)
    assert not repeats(np.concatenate([moves, rests, moves]), 30.0).any()
    assert not repeats(np.concatenate([moves, np.linspace(50, 1, 12), np.linspace(1, 50, 12), moves]), 30.0).any()


def test_still_and_ordinary_film_is_left_as_it_is(tmp_path, extract, notes):
    still = movie(tmp_path / "still.mkv", "-vf", "select='not(n)',loop=-1:1", n_frames=24)
    assert extract(still).n_frames >= 20
    assert notes.said == []


def test_a_frame_does_not_come_twice_where_the_rate_varies(tmp_path, extract, notes):
    """The second half has a half of the first one's frames."""
    uneven = ["-vf", "select='lt(n,24)+not(mod(n,2))'", "-fps_mode", "vfr"]
    video = extract(movie(tmp_path / "clip.mkv", *uneven, n_frames=36, rate=24))
    assert np.diff(levels(video)).min() >= 1
    assert video.fps == pytest.approx(12, rel=0.02)


def test_only_the_part_that_is_used_has_to_be_even(tmp_path, extract, notes):
    uneven = ["-vf", "select='lt(n,24)+not(mod(n,3))'", "-fps_mode", "vfr"]
    clip = movie(tmp_path / "clip.mkv", *uneven, n_frames=44, rate=24)
    extract(clip, max_frames=5, min_fps=20)
    assert not any("evenly" in note for note in notes.said)


def test_high_dynamic_range_becomes_ordinary_colours(tmp_path, extract, notes):
    """Reference white of HLG (203 cd/m2) lies at 0.75 of the signal; in ordinary colours it is nearly white."""
    source = "color=c=gray:s=96x64:r=12:d=1,format=yuv420p10le,geq=lum='64+0.75*876':cb=512:cr=512"
    tags = "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc:range=tv"
    encoder = ["-c:v", "libx264", "-pix_fmt", "yuv420p10le"]
    command = [get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", f"{source},{tags}", *encoder]
    subprocess.run([*command, str(tmp_path / "phone.mp4")], check=True)
    grey = extract(tmp_path / "phone.mp4").frame(0).mean((0, 1))
    assert notes.said == ["its high dynamic range is brought into ordinary colours"]
    assert grey.min() > 205
    assert np.ptp(grey) < 6


def barred(left: int, top: int, right: int, bottom: int, *, width: int = 160, height: int = 120) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[top : height - bottom, left : width - right] = textured(3, height - top - bottom, width - left - right)
    return image


@pytest.mark.parametrize(
    ("edges", "found"),
    [
        ((0, 15, 0, 15), (0, 15, 0, 15)),
        ((20, 0, 21, 0), (21, 0, 21, 0)),  # the middle stays the middle
        ((16, 12, 16, 12), (16, 12, 16, 12)),
        ((0, 5, 0, 20), (0, 5, 0, 20)),  # the picture was not put into the middle
        ((0, 1, 0, 1), (0, 0, 0, 0)),
        ((0, 50, 0, 50), (0, 0, 0, 0)),  # too little would be left
    ],
)
def test_bars(edges, found):
    assert bars(cv2.cvtColor(barred(*edges), cv2.COLOR_RGB2GRAY)) == found


def test_a_dark_sky_is_no_bar():
    night = np.zeros((120, 160), np.uint8)
    night[60:] = 90
    night[20:60, 70:76] = 255  # a street lamp
    assert bars(night) == (0, 0, 0, 0)


def test_black_bars_of_a_folder_are_cut_off(tmp_path, extract, notes):
    folder = tmp_path / "images"
    folder.mkdir()
    for t in range(6):
        cv2.imwrite(str(folder / f"{t}.png"), barred(20, 0, 20, 0))
    video = extract(folder, max_side=80)
    assert (video.width, video.height) == (78, 80)
    assert video.reduction == pytest.approx(80 / 120, rel=0.01), "a focal length in px of the footage stays right"
    assert video.shown == pytest.approx((22 / 160, 0, 138 / 160, 1))
    assert video.frame(3).max(-1).min(0).max() > BLACK_LEVEL
    assert "black bars are cut off: 116x120 of 160x120 px are left" in notes.said[0]


def test_black_bars_of_a_film_are_cut_off_and_may_be_kept(tmp_path, extract, notes):
    clip = sliding(tmp_path / "film.mp4", "-vf", "pad=iw:ih+40:0:20")
    video = extract(clip)
    assert (video.width, video.height, video.reduction) == (128, 92, 1)
    assert video.frame(3).max((1, 2)).min() > 100
    assert Video.load(video.folder) == video


def test_bars_can_be_kept(tmp_path, extract):
    clip = sliding(tmp_path / "film.mp4", "-vf", "pad=iw:ih+40:0:20")
    assert extract(clip, crop_bars=False).height == 136


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
