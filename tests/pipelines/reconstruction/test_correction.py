"""Several strangers in one mask. The other corrections are tested on whole clips in `tests/pipelines/test_sfm.py`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.artifacts import Labels, ObjectModel, SfmStatus, Tracks, Video
from pipelines.reconstruction.correction import Corrector, Reconstructed

N_FRAMES, WIDTH, HEIGHT = 6, 60, 40


def solved(k: int, labels: Labels, tracks: Tracks) -> ObjectModel:
    """Everything has a motion that is certain."""
    model = ObjectModel.failed(k, SfmStatus.OK, "", N_FRAMES)
    return replace(model, registered=np.ones(N_FRAMES, bool), cam_from_obj=np.tile(np.eye(4), (N_FRAMES, 1, 1)))


@pytest.mark.parametrize("groups", [((200, 260), (260, 300)), ((100, 140), (200, 260))])
def test_each_group_of_strangers_becomes_an_object_of_its_own_tracks(monkeypatch, groups):
    n = 300
    track, frame = (part.ravel() for part in np.meshgrid(np.arange(n), np.arange(N_FRAMES), indexing="ij"))
    xy_px = np.random.default_rng(0).uniform((0, 0), (WIDTH, HEIGHT), (len(track), 2))
    tracks = Tracks(track, frame, xy_px, np.ones(n, np.uint8))
    labels = Labels(np.ones((N_FRAMES, HEIGHT, WIDTH), np.uint8), ("background", "host"))
    found = Reconstructed(tuple(solved(k, labels, tracks) for k in range(2)), labels, tracks)
    said: list[str] = []
    corrector = Corrector(Video(Path(), WIDTH, HEIGHT, N_FRAMES, 12.0, "none"), 50.0, 2.0, 0, solved, said.append)
    strangers = [np.arange(*group) for group in groups]
    monkeypatch.setattr(Corrector, "_strangers", lambda self, found, k: strangers if k == 1 else [])
    result = corrector.founded(found)
    assert [model.status for model in result.models[2:]] == [SfmStatus.DOUBTFUL] * 2
    for k, group in zip((2, 3), strangers, strict=True):
        assert np.flatnonzero(result.tracks.object_id == k).tolist() == group.tolist()
        assert f"{len(group)} tracks of host" in result.models[k].reason
    assert set(np.unique(result.labels.maps)) == {1, 2, 3}
