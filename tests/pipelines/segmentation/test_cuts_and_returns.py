from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts import Flow, Video
from pipelines.errors import InputError
from pipelines.segmentation.cuts import refuse_cuts
from pipelines.segmentation.grid_tracks import PointTracks
from pipelines.segmentation.returns import link_returns


def flow_with_consistency(folder: Path, shares: list[float]) -> tuple[Video, Flow]:
    video = Video(folder, 20, 10, len(shares) + 1, 10.0, "film.mp4")
    flow = Flow(folder, tuple((t, t + 1) for t in range(len(shares))))
    for t, share in enumerate(shares):
        ok = np.arange(200).reshape(10, 20) < 200 * share
        flow.write(t, t + 1, np.zeros((10, 20, 2), np.float32), ok)
    return video, flow


def test_a_cut_is_named_with_its_frame_and_time(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"film.mp4 has a cut between frames 2 and 3.*--end 0.30 or --start 0.30"):
        refuse_cuts(*flow_with_consistency(tmp_path, [0.9, 0.8, 0.05, 0.9, 0.9]))


def test_hard_footage_is_not_a_cut(tmp_path: Path) -> None:
    refuse_cuts(*flow_with_consistency(tmp_path, [0.2, 0.12, 0.1, 0.15, 0.2]))


@pytest.mark.parametrize(("colour", "linked"), [((200, 40, 40), True), ((40, 40, 200), False)])
def test_an_object_that_returns_keeps_its_number_if_it_looks_the_same(
    tmp_path: Path, colour: tuple[int, int, int], linked: bool
) -> None:
    video = Video(tmp_path, 20, 10, 8, 10.0, "film.mp4")
    for t in range(8):
        image = np.full((10, 20, 3), 90, np.uint8)
        image[:5, :5] = (200, 40, 40)
        image[:5, 10:15] = colour
        Image.fromarray(image).save(video.path(t))
    xy_px = np.full((12, 8, 2), np.nan)
    xy_px[:4] = (7.5, 8.5)  # background
    xy_px[4:8, :3] = (2.5, 2.5)
    xy_px[8:, 5:] = (12.5, 2.5)
    label = np.repeat([0, 1, 2], 4)
    found, notes = link_returns(video, PointTracks(xy_px, np.isfinite(xy_px[..., 0])), label)
    np.testing.assert_array_equal(found, np.repeat([0, 1, 1 if linked else 2], 4))
    assert len(notes) == linked


@pytest.mark.parametrize(("as_one", "linked"), [(True, True), (False, False)])
def test_an_object_whose_front_is_seen_before_its_back_is_gone_is_one(tmp_path: Path, as_one: bool, linked: bool) -> None:
    """In frames 6 to 10 of 16 both groups are seen; they turn by the same or by opposite angles there."""
    rng = np.random.default_rng(0)
    n_frames, video = 16, Video(tmp_path, 80, 60, 16, 10.0, "film.mp4")
    for t in range(n_frames):
        Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(video.path(t))
    points = rng.uniform(-12, 12, (90, 3))
    xy_px = np.full((90, n_frames, 2), np.nan)
    for t in range(n_frames):
        for which, sign in ((slice(30, 60), 1.0), (slice(60, 90), 1.0 if as_one else -1.0)):
            angle = sign * 0.05 * t
            x, y, z = points[which].T
            xy_px[which, t] = np.stack([40 + np.cos(angle) * x + np.sin(angle) * z, 30 + y + 0.3 * sign * t], -1)
    xy_px[:30] = points[:30, None, :2] + (40, 30)  # background
    xy_px[30:60, 11:] = np.nan
    xy_px[60:, :6] = np.nan
    found, _ = link_returns(video, PointTracks(xy_px, np.isfinite(xy_px[..., 0])), np.repeat([0, 1, 2], 30))
    assert found.max() == (1 if linked else 2)
