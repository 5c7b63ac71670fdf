"""The second look of the motion segmentation: tracks where something moves, strays, doubts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.artifacts import Flow
from pipelines.errors import InputError
from pipelines.segment import SegmentConfig
from pipelines.segmentation.doubts import doubts
from pipelines.segmentation.focus import FocusOptions, focused
from pipelines.segmentation.grid_tracks import PointTracks
from pipelines.segmentation.grouping import Groups, neighbour_links
from pipelines.segmentation.motion import segment_by_motion
from pipelines.segmentation.refinement import reassign, strays
from pipelines.segmentation.rigidity import RigidityTest, frame_triplets
from pipelines.stage import ItemCache, StageContext

from .test_clustering import moving_scene


def test_focus_keeps_what_moves_and_thins_the_background() -> None:
    tracks, truth = moving_scene(2)
    coarse = tracks.chosen(np.arange(0, 300, 2))
    options = FocusOptions(background_share=0.25, noise_px=0.1)
    chosen = focused(tracks, coarse, np.ones(150, bool), 200, options, np.random.default_rng(0))
    kept = [(chosen.xy_px[:, 0, :, None] == tracks.xy_px[truth == k, 0].T).all(1).any(1).sum() for k in range(3)]
    assert kept[1] >= 48, "all but a few of the 50 tracks of a mover"
    assert kept[2] >= 48
    assert 50 <= kept[0] <= 60, "a quarter of 200, and a few outliers"


def found_strays(label: np.ndarray, tracks: PointTracks) -> list:
    links = neighbour_links(tracks.xy_px, tracks.visible, 2)
    test = RigidityTest(tracks.xy_px, tracks.visible, (), 0.1)
    groups = [np.flatnonzero(label == g) for g in range(label.max() + 1)]
    return strays(test, groups, links, np.ones(len(links), bool))


def test_a_mover_without_a_group_is_a_stray() -> None:
    tracks, truth = moving_scene(2)
    low, high = (f(tracks.xy_px[truth == 2], axis=(0, 1)) for f in (np.min, np.max))
    hidden = ((tracks.xy_px > low) & (tracks.xy_px < high)).all(-1).any(1) & (truth == 0)
    tracks, truth = tracks.chosen(~hidden), truth[~hidden]
    assert found_strays(truth, tracks) == []
    (stray,) = found_strays(np.where(truth == 2, -1, truth), tracks)
    assert (truth[stray.members] == 2).mean() > 0.95
    assert len(stray.members) >= 40
    assert stray.gain > 4


def test_two_pieces_are_doubtful_and_one_is_not(slide) -> None:
    tracks, truth = moving_scene(1)
    maps = np.zeros((16, 60, 80), np.uint8)
    maps[:, 10:30, 10:30] = 1
    assert doubts(tracks, truth, maps, slide.video) == []
    maps[:10, 10:30, 50:65] = 1
    (said,) = doubts(tracks, truth, maps, slide.video)
    assert said.startswith("object 1 is in two pieces in 10 of 16 frames")


def test_a_mixed_group_does_not_keep_what_the_background_explains(monkeypatch) -> None:
    tracks, truth = moving_scene(2)
    visible, xy_px = tracks.visible, tracks.xy_px.copy()
    # The mover's tracks are poor, so next to them those of the background look good under any motion.
    poor = truth == 2
    xy_px[poor] += np.random.default_rng(0).normal(0, 3.0, xy_px[poor].shape)
    stolen = np.flatnonzero(truth == 0)[:120]
    label = truth.copy()
    label[stolen] = 2
    test = RigidityTest(xy_px, visible, frame_triplets(16, (2, 5), 6), 0.1)
    links = neighbour_links(xy_px, visible, 2)

    def returned() -> float:
        groups = Groups(test, np.full((len(truth), len(truth)), 0.1, np.float32), links, label.copy())
        reassign(groups)
        return float((groups.label[stolen] == 0).mean())

    assert returned() > 0.9
    monkeypatch.setattr(RigidityTest, "mean_log_variance", lambda self, motions: np.zeros(len(self.xy_px)))
    assert returned() < 0.8


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_water_is_refused_with_advice(tmp_path: Path, slide, share: float) -> None:
    """Flow is consistent in many places of each pair of frames, but in the same place hardly ever for long."""
    n_frames, rng = 12, np.random.default_rng(0)
    flow = Flow(tmp_path, tuple((t, t + 1) for t in range(n_frames - 1)))
    for t, u in flow.pairs:
        flow.write(t, u, np.zeros((120, 160, 2), np.float32), rng.random((120, 160)) < share)
    water = replace(slide.video, n_frames=n_frames, source="sea.mp4")
    with pytest.raises(InputError, match=r"hardly anything in sea.mp4 can be followed for 6 frames .*use a part"):
        segment_by_motion(SegmentConfig(), video=water, flow=flow, context=StageContext(tmp_path, ItemCache(tmp_path)))
