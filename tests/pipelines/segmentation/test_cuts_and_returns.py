from dataclasses import replace
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


def test_a_cut_is_named_with_its_time_and_the_longest_shot(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"film.mp4 has a cut, at 0.30 s: .* longest has 4 frames: --start 0.30 --end 0.61"):
        refuse_cuts(*flow_with_consistency(tmp_path, [0.9, 0.8, 0.05, 0.9, 0.9, 0.9]))


def test_all_cuts_are_named_from_the_beginning_of_the_footage(tmp_path: Path) -> None:
    """A film of which the part from 20 s on is used."""
    video, flow = flow_with_consistency(tmp_path, [0.9, 0.05, 0.9, 0.9, 0.9, 0.05, 0.9, 0.9, 0.9, 0.9, 0.9])
    with pytest.raises(InputError, match=r"2 cuts, at 20.20, 20.60 s: .* longest has 6 frames: --start 20.60 --end 21.11"):
        refuse_cuts(replace(video, start_s=20.0), flow)


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
    found, notes = link_returns(video, PointTracks(xy_px, np.isfinite(xy_px[..., 0])), label, np.random.default_rng(0))
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
    found, _ = link_returns(video, PointTracks(xy_px, np.isfinite(xy_px[..., 0])), np.repeat([0, 1, 2], 30), rng)
    assert found.max() == (1 if linked else 2)


RED, GREEN = (200, 40, 40), (40, 200, 40)


@pytest.mark.parametrize(
    ("late_colour", "seen_until", "home"),
    [
        (RED, 6, 2),  # the second object comes back
        (GREEN, 6, 1),  # it looks like the one beside it
        (RED, 16, 1),  # the second object was never away
    ],
)
def test_what_comes_back_beside_another_mover_is_told_by_its_colours(
    tmp_path: Path, late_colour: tuple[int, int, int], seen_until: int, home: int
) -> None:
    """Tracks 30-129 are a green object's; 130-189 a red one's, until frame `seen_until`; 190-239 are seen from frame 9 on, turn
    otherwise than the green object, and were grouped with it."""
    rng = np.random.default_rng(0)
    n_frames, video = 16, Video(tmp_path, 160, 60, 16, 10.0, "film.mp4")
    for t in range(n_frames):
        image = np.full((60, 160, 3), 90, np.uint8)
        image[:, 10:60], image[:, 60:100], image[:, 100:] = GREEN, late_colour, RED
        Image.fromarray(image).save(video.path(t))
    points = rng.uniform(-12, 12, (240, 3))
    xy_px = np.full((240, n_frames, 2), np.nan)
    xy_px[:30] = points[:30, None, :2] + (5, 30)  # background
    for which, centre, (across, along) in (
        (slice(30, 130), 35, (0.05, 0.0)),
        (slice(130, 190), 130, (0.0, 0.05)),
        (slice(190, 240), 80, (0.0, 0.05)),
    ):
        x, y, z = points[which].T
        for t in range(n_frames):
            xy_px[which, t] = np.stack([centre + x + across * t * z, 30 + y + along * t * z], -1)
    xy_px[130:190, seen_until:] = np.nan
    xy_px[190:, :9] = np.nan
    xy_px[30:] += rng.normal(0, 0.05, xy_px[30:].shape)
    grouped = np.repeat([0, 1, 2, 1], [30, 100, 60, 50])
    found, notes = link_returns(video, PointTracks(xy_px, np.isfinite(xy_px[..., 0])), grouped, rng)
    np.testing.assert_array_equal(found[:190], grouped[:190])
    assert np.mean(found[190:] == home) >= 0.8
    assert len(notes) == (home == 2)
