import numpy as np
import pytest

from pipelines import geometry


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def random_rigid(rng: np.random.Generator, n: int) -> np.ndarray:
    rotation, _ = np.linalg.qr(rng.normal(size=(n, 3, 3)))
    rotation *= np.linalg.det(rotation)[:, None, None]
    return geometry.rigid(rotation, rng.normal(size=(n, 3)))


def test_invert_is_the_matrix_inverse(rng):
    b_from_a = random_rigid(rng, 5)
    np.testing.assert_allclose(geometry.invert(b_from_a), np.linalg.inv(b_from_a), atol=1e-12)


def test_transform_composes_as_it_reads(rng):
    c_from_b, b_from_a = random_rigid(rng, 2)
    points = rng.normal(size=(7, 3))
    np.testing.assert_allclose(
        geometry.transform(c_from_b @ b_from_a, points),
        geometry.transform(c_from_b, geometry.transform(b_from_a, points)),
        atol=1e-12,
    )


def test_centre_of_the_first_pixel_is_half_half():
    assert geometry.pixel_centres(4, 3)[0, 0].tolist() == [0.5, 0.5]
    assert geometry.pixel_centres(4, 3)[2, 1].tolist() == [1.5, 2.5]


def test_the_principal_point_looks_straight_ahead():
    intrinsics = np.array([[100.0, 0, 32], [0, 90.0, 24], [0, 0, 1]])
    assert geometry.ray_directions(intrinsics, np.array([32.0, 24.0])).tolist() == [0, 0, 1]
    # A 45 degree ray leaves the principal point by one focal length.
    np.testing.assert_allclose(geometry.ray_directions(intrinsics, np.array([132.0, 24.0])), [1, 0, 1])


def test_rays_and_projection_are_inverse(rng):
    intrinsics = np.array([[403.2, 0, 192], [0, 380.0, 144], [0, 0, 1]])
    xy_px = rng.uniform(0, 288, (20, 2))
    depth = rng.uniform(1, 9, (20, 1))
    np.testing.assert_allclose(geometry.project(intrinsics, depth * geometry.ray_directions(intrinsics, xy_px)), xy_px)


def test_resized_images_see_the_same_rays():
    intrinsics = np.array([[403.2, 0, 192], [0, 403.2, 144], [0, 0, 1]])
    half = geometry.scaled_intrinsics(intrinsics, 0.5, 0.5)
    # Pixel (0, 0) of the half-size image covers the pixels (0, 0) to (1, 1) of the full one, whose common corner is (1, 1).
    np.testing.assert_allclose(
        geometry.ray_directions(half, np.array([0.5, 0.5])), geometry.ray_directions(intrinsics, np.array([1.0, 1.0]))
    )


def test_field_of_view_of_ninety_degrees_is_half_the_width():
    assert geometry.focal_from_fov(90.0, 320) == pytest.approx(160)


def test_flow_is_followed_to_where_it_ends_with_pixel_centres_counted_from_0():
    flow_px = np.zeros((2, 3, 2), np.float32)
    flow_px[1, 2] = [0.5, -1.0]
    column, row = geometry.along_flow(flow_px)
    assert column.tolist() == [[0, 1, 2], [0, 1, 2.5]]
    assert row.tolist() == [[0, 0, 0], [1, 1, 0]]


@pytest.mark.parametrize("angle_deg", [0.0, 1e-6, 3.0, 90.0, 179.9999])
def test_rotation_angle(angle_deg):
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    assert geometry.rotation_angle_deg(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])) == pytest.approx(angle_deg, abs=1e-9)


def test_the_pivot_stays_in_the_middle_at_its_distance():
    for azimuth_deg, elevation_deg in ((10.0, 0.0), (0.0, -20.0), (30.0, 15.0)):
        view_from_cam = geometry.turned_about_pivot(4.0, azimuth_deg, elevation_deg)
        assert np.allclose(geometry.transform(view_from_cam, np.array([[0, 0, 4.0]])), [[0, 0, 4.0]])
        assert np.allclose(view_from_cam[:3, :3] @ view_from_cam[:3, :3].T, np.eye(3))


def test_azimuth_goes_right_and_elevation_up():
    right = geometry.invert(geometry.turned_about_pivot(4.0, 30.0, 0.0))[:3, 3]
    up = geometry.invert(geometry.turned_about_pivot(4.0, 0.0, 30.0))[:3, 3]
    assert np.allclose(right, [4 * np.sin(np.pi / 6), 0, 4 - 4 * np.cos(np.pi / 6)])
    assert np.allclose(up, [0, -4 * np.sin(np.pi / 6), 4 - 4 * np.cos(np.pi / 6)])


def test_scaling_an_object_leaves_the_filmed_view_alone(rng):
    cam_from_world, cam_from_obj = random_rigid(rng, 2)
    points = rng.normal(size=(9, 3))
    for scale in (0.3, 1.0, 4.0):
        seen = geometry.transform(cam_from_world @ geometry.world_from_obj(cam_from_world, cam_from_obj, scale), points)
        np.testing.assert_allclose(seen, scale * geometry.transform(cam_from_obj, points), atol=1e-12)


def test_another_view_sees_the_placed_object(rng):
    view_from_world, cam_from_world, cam_from_obj = random_rigid(rng, 3)
    points, scale = rng.normal(size=(9, 3)), 1.7
    world = geometry.transform(geometry.world_from_obj(cam_from_world, cam_from_obj, scale), points)
    view_from_obj = geometry.viewed_cam_from_obj(view_from_world, cam_from_world, cam_from_obj, scale)
    np.testing.assert_allclose(
        scale * geometry.transform(view_from_obj, points), geometry.transform(view_from_world, world), atol=1e-12
    )
