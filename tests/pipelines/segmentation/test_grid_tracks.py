from pathlib import Path

import numpy as np

from pipelines.artifacts import Flow
from pipelines.segmentation.grid_tracks import chain, follow


def test_points_follow_flow_bilinearly_and_stop_where_it_is_inconsistent() -> None:
    flow_px = np.zeros((10, 20, 2), np.float32)
    flow_px[..., 0] = np.arange(20) / 10  # flow grows by 0.1 px per column
    ok = np.ones((10, 20), bool)
    ok[8, 3] = False
    moved, good = follow(np.array([[5.5, 2.5], [6.0, 2.5], [3.5, 8.5], [19.4, 5.0]]), flow_px, ok)
    np.testing.assert_allclose(moved[:2], [[6.0, 2.5], [6.55, 2.5]], atol=1e-6)
    np.testing.assert_array_equal(good, [True, True, False, False])


def test_chained_tracks_move_with_the_flow_and_free_places_are_filled(tmp_path: Path) -> None:
    flow = Flow(tmp_path, tuple((t, t + 1) for t in range(5)))
    step = np.full((30, 40, 2), (2.0, 0.0), np.float32)
    for t, u in flow.pairs:
        flow.write(t, u, step, np.ones((30, 40), bool))
    tracks = chain(flow, n_frames=6, width=40, height=30, spacing_px=5.0, min_frames=3)
    for xy_px, seen in zip(tracks.xy_px, tracks.visible, strict=True):
        frames = np.flatnonzero(seen)
        assert len(frames) >= 3
        np.testing.assert_allclose(np.diff(xy_px[frames], axis=0), np.tile([2.0, 0.0], (len(frames) - 1, 1)))
    first_column = tracks.visible[:, 3] & (tracks.xy_px[:, 3, 0] < 5)
    assert first_column.sum() == 6, "six rows of new tracks where the flow left the picture empty"
