from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from pipelines.artifacts import Labels, Video
from pipelines.reconstruction.complete import Views, _find, surface_normals
from pipelines.reconstruction.grow import GrowOptions


def test_a_pose_that_shows_only_the_far_side_finds_nothing(toy, tmp_path: Path) -> None:
    n_frames, size_px = toy.sightings.n_frames, 400
    video = Video(tmp_path, size_px, size_px, n_frames, 10.0, "toy")
    labels = Labels(np.ones((n_frames, size_px, size_px), np.uint8), ("background", "box"))
    views = Views(video, labels, 1, np.array([size_px / 2, size_px / 2]))
    placed = np.ones(len(toy.truth.points), bool)
    normals = surface_normals(toy.truth.points, placed)
    start = toy.truth.cam_from_obj[5].copy()
    start[:3, :3] = Rotation.from_rotvec([0, np.pi, 0]).as_matrix() @ start[:3, :3]
    options = GrowOptions(0.3, 2.0, 8, False)
    table = toy.sightings.xy_px.copy()
    table[5] = np.nan
    # No picture exists: to look for patches in one would be an error.
    assert _find(table, toy.truth, placed, normals, views, 5, start, 6, options) is None
