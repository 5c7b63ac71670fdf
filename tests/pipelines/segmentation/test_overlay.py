from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from pipelines.artifacts import Video
from pipelines.errors import WorkspaceError
from pipelines.palette_png import palette
from pipelines.progress import Silent
from pipelines.segmentation.overlay import TINT, draw_overlay, write_overlay


def test_objects_are_tinted_and_outlined_and_the_background_is_untouched() -> None:
    image = np.full((120, 160, 3), 200, np.uint8)
    labels = np.zeros((120, 160), np.uint8)
    labels[20:100, 20:100] = 1
    picture = draw_overlay(image, labels)
    np.testing.assert_array_equal(picture[labels == 0], 200)
    np.testing.assert_array_equal(picture[20, 20:100], np.broadcast_to(palette()[1], (80, 3)))
    np.testing.assert_allclose(picture[25, 25], (1 - TINT) * 200 + TINT * palette()[1], atol=1)
    middle = picture[50:70, 50:70].astype(int)
    assert (middle > 200).all(-1).any(), "the object's number is written where its mask is thickest"


def test_a_film_that_the_encoder_did_not_finish_is_said(tmp_path, monkeypatch) -> None:
    def broken(path, *_, **__):
        Path(path).write_bytes(b"")
        while True:
            yield

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", broken)
    video = Video(tmp_path, width=16, height=8, n_frames=1, fps=10.0, source="test")
    cv2.imwrite(str(video.path(0)), np.zeros((8, 16, 3), np.uint8))
    with pytest.raises(WorkspaceError, match=r"overlay\.mp4 could not be finished: is the disk full"):
        write_overlay(tmp_path / "overlay.mp4", video, np.zeros((1, 8, 16), np.uint8), Silent())


def test_video_has_all_frames_even_at_odd_sizes(tmp_path: Path) -> None:
    video = Video(tmp_path, width=75, height=51, n_frames=4, fps=10.0, source="test")
    for t in range(4):
        cv2.imwrite(str(video.path(t)), np.full((51, 75, 3), 40 * t, np.uint8))
    write_overlay(tmp_path / "overlay.mp4", video, np.zeros((4, 51, 75), np.uint8), Silent())
    capture = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    frames = [capture.read()[1] for _ in range(4)]
    assert not capture.read()[0]
    assert frames[0].shape[0] >= 240
    assert [abs(int(frame.mean()) - 40 * t) < 8 for t, frame in enumerate(frames)] == [True] * 4
