"""Strangers in one mask. The other corrections are tested on whole clips in `tests/pipelines/test_sfm.py`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.artifacts import Labels, ObjectModel, SfmStatus, Tracks, Video
from pipelines.reconstruction.correction import GAINED, Corrector, Reconstructed

N_FRAMES, WIDTH, HEIGHT, N_TRACKS = 6, 60, 40, 300
Solve = Callable[[int, Labels, Tracks], ObjectModel]


def solved(k: int, status: SfmStatus = SfmStatus.OK, reason: str = "") -> ObjectModel:
    model = ObjectModel.failed(k, status, reason, N_FRAMES)
    return replace(model, registered=np.ones(N_FRAMES, bool), cam_from_obj=np.tile(np.eye(4), (N_FRAMES, 1, 1)))


def certain(k: int, labels: Labels, tracks: Tracks) -> ObjectModel:
    """Everything has a motion that is certain."""
    return solved(k)


def two_objects(host: int) -> Reconstructed:
    """A background and a mover; all tracks and pixels are one's, the host."""
    track, frame = (part.ravel() for part in np.meshgrid(np.arange(N_TRACKS), np.arange(N_FRAMES), indexing="ij"))
    xy_px = np.random.default_rng(0).uniform((0, 0), (WIDTH, HEIGHT), (len(track), 2))
    tracks = Tracks(track, frame, xy_px, np.full(N_TRACKS, host, np.uint8))
    labels = Labels(np.full((N_FRAMES, HEIGHT, WIDTH), host, np.uint8), ("background", "host"))
    return Reconstructed((solved(0), solved(1)), labels, tracks)


def corrector(solve: Solve, said: list[str]) -> Corrector:
    return Corrector(Video(Path(), WIDTH, HEIGHT, N_FRAMES, 12.0, "none"), 50.0, 2.0, 0, solve, said.append)


def with_strangers(monkeypatch: pytest.MonkeyPatch, host: int, groups: list[np.ndarray]) -> None:
    monkeypatch.setattr(Corrector, "_strangers", lambda self, found, k: groups if k == host else [])


@pytest.mark.parametrize("groups", [((200, 260), (260, 300)), ((100, 140), (200, 260))])
def test_each_group_of_strangers_becomes_an_object_of_its_own_tracks(monkeypatch, groups):
    strangers = [np.arange(*group) for group in groups]
    with_strangers(monkeypatch, 1, strangers)
    result = corrector(certain, []).founded(two_objects(host=1))
    assert [model.status for model in result.models[2:]] == [SfmStatus.DOUBTFUL] * 2
    for k, group in zip((2, 3), strangers, strict=True):
        assert np.flatnonzero(result.tracks.object_id == k).tolist() == group.tolist()
        assert f"{len(group)} tracks of host" in result.models[k].reason
    assert set(np.unique(result.labels.maps)) == {1, 2, 3}


@pytest.mark.parametrize("status", [SfmStatus.DOUBTFUL, SfmStatus.UNRELIABLE, SfmStatus.NOT_REGISTERED])
def test_strangers_in_a_movers_mask_may_have_a_doubtful_motion(monkeypatch, status):
    """The doubt is told. Without any motion they stay strangers."""
    with_strangers(monkeypatch, 1, [np.arange(60)])
    found = two_objects(host=1)
    result = corrector(lambda k, *_: solved(k, status, "a twin") if k == 2 else solved(k), []).founded(found)
    if status is SfmStatus.DOUBTFUL:
        assert result.models[2].status is SfmStatus.DOUBTFUL
        assert "60 tracks of host" in result.models[2].reason
        assert "a twin" in result.models[2].reason
    else:
        assert result == found


def test_strangers_before_the_background_need_a_motion_that_is_certain(monkeypatch):
    """A shadow has a doubtful one."""
    with_strangers(monkeypatch, 0, [np.arange(60)])
    found, said = two_objects(host=0), list[str]()
    assert corrector(lambda k, *_: solved(k, SfmStatus.DOUBTFUL), said).founded(found) == found
    assert "60 tracks" in said[0]
    assert corrector(certain, said).founded(found).models[2].status is SfmStatus.DOUBTFUL


@pytest.mark.parametrize("gained", [GAINED / 2, 2 * GAINED])
@pytest.mark.parametrize("before", [SfmStatus.OK, SfmStatus.DOUBTFUL])
@pytest.mark.parametrize("after", [SfmStatus.OK, SfmStatus.DOUBTFUL, SfmStatus.NOT_REGISTERED])
def test_an_object_that_is_given_many_tracks_is_reconstructed_again(monkeypatch, gained, before, after):
    monkeypatch.setattr(Corrector, "_triangulated", lambda self, model, tracks: model)
    found = two_objects(host=0)
    found.tracks.object_id[:100] = 1
    now = replace(found, tracks=replace(found.tracks, object_id=found.tracks.object_id.copy()))
    now.tracks.object_id[100 : 100 + int(100 * gained)] = 1
    asked: list[int] = []

    def solve(k: int, labels: Labels, tracks: Tracks) -> ObjectModel:
        asked.append(len(tracks.object_id))
        return solved(k, after, "anew")

    model = solved(1, before, "old")
    renewed = corrector(solve, [])._renewed(model, found, now)
    assert asked == ([150] if gained > GAINED else [])
    better = after is SfmStatus.OK or (before is after is SfmStatus.DOUBTFUL)
    assert renewed.reason == ("anew" if gained > GAINED and better else "old")
