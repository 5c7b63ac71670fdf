"""COLMAP files that pycolmap reads back to the same reconstruction."""

import numpy as np
import pycolmap
import pytest

from pipelines.artifacts import ObjectModel, SfmStatus
from pipelines.formats.colmap import read_poses, write_model
from pipelines.geometry import project, rigid, transform


@pytest.fixture
def model() -> ObjectModel:
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (12, 3))
    poses = rigid(np.tile(np.eye(3), (4, 1, 1)), np.array([[0.1 * t, 0, 3.0] for t in range(4)]))
    registered = np.array([True, True, False, True])
    intrinsics = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    frame, point = np.nonzero(np.repeat(registered[:, None], 12, 1))
    xy_px = project(intrinsics, transform(poses, np.broadcast_to(points, (4, 12, 3))))[frame, point]
    return ObjectModel(
        object_id=1,
        status=SfmStatus.OK,
        reason="",
        registered=registered,
        cam_from_obj=np.where(registered[:, None, None], poses, np.eye(4)),
        points=points,
        point_error_px=np.zeros(12),
        point_rgb=rng.integers(0, 255, (12, 3)).astype(np.uint8),
        obs_point=point,
        obs_frame=frame,
        obs_xy_px=xy_px,
    )


def test_pycolmap_reads_what_was_written(model, tmp_path):
    intrinsics = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    names = [f"{t:06d}.png" for t in range(4)]
    write_model(tmp_path / "sparse", model, intrinsics=intrinsics, width=320, height=240, image_names=names)
    read = pycolmap.Reconstruction(str(tmp_path / "sparse"))
    assert read.num_reg_images() == 3
    assert read.num_points3D() == 12
    assert read.compute_mean_reprojection_error() < 1e-6
    assert sorted(image.name for image in read.images.values()) == [names[0], names[1], names[3]]
    np.testing.assert_allclose(sorted(p.xyz[0] for p in read.points3D.values()), sorted(model.points[:, 0]))
    poses, registered = read_poses(tmp_path / "sparse", names)
    np.testing.assert_array_equal(registered, model.registered)
    np.testing.assert_allclose(poses, model.cam_from_obj, atol=1e-12)
