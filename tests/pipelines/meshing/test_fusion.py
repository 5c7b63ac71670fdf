import numpy as np

from pipelines.geometry import pixel_centres, ray_directions
from pipelines.meshing.fusion import Grid, facing, fused_surface
from pipelines.meshing.views import ObjectViews

INTRINSICS = np.array([[160.0, 0.0, 96.0], [0.0, 160.0, 72.0], [0.0, 0.0, 1.0]])
CAMERA_HEIGHT = 1.0
RAYS = ray_directions(INTRINSICS, pixel_centres(192, 144))


def floor_depth() -> np.ndarray:
    """z-depth of the plane y = CAMERA_HEIGHT below a level camera; nothing at and above the horizon."""
    with np.errstate(divide="ignore"):
        return np.where(RAYS[..., 1] > 0.05, CAMERA_HEIGHT / RAYS[..., 1], np.inf)


def test_facing_turns_depth_into_distance_from_the_plane() -> None:
    depth = floor_depth()
    cosine = facing(depth, INTRINSICS)
    inner = np.isfinite(depth)
    inner[:, :3] = inner[:, -3:] = False
    inner[-3:] = False
    inner[: np.flatnonzero(inner.any(1))[0] + 9] = False  # next to the horizon a pixel's depth jumps
    nearer = RAYS * (depth - 0.1)[..., None]
    np.testing.assert_allclose((0.1 * cosine)[inner], (CAMERA_HEIGHT - nearer[..., 1])[inner], rtol=0.02)
    assert (facing(np.full((144, 192), np.inf), INTRINSICS) == 1).all()


def test_a_floor_seen_at_a_grazing_angle_has_no_holes() -> None:
    """Its nodes are 1/20 apart; at depth 6 a node below it is 0.3 behind it by z-depth, far more than the truncation."""
    depth = floor_depth()
    seen = np.isfinite(depth) & (depth < 7)
    views = ObjectViews(
        frames=np.zeros(1, int),
        intrinsics=INTRINSICS,
        cam_from_obj=np.eye(4)[None],
        depth=np.where(seen, depth, np.inf)[None],
        seen=seen[None],
        background_depth=np.where(seen, np.nan, np.inf)[None],
    )
    grid = Grid.uniform(np.array([-1.0, 0.5, 2.5]), np.array([1.0, 1.5, 6.5]), 80)
    mesh = fused_surface(views, grid, truncation_nodes=3.0)
    corners = mesh.vertices[mesh.faces].astype(float)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(1)
    inside = (np.abs(middle[:, 0]) < 0.8) & (middle[:, 2] > 3) & (middle[:, 2] < 6)
    np.testing.assert_allclose(middle[inside, 1], CAMERA_HEIGHT, atol=0.05)
    area = 0.5 * np.abs(normals[inside, 1]).sum()
    assert abs(area / (1.6 * 3.0) - 1) < 0.05
