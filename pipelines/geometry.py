"""Rigid transforms, pinhole cameras and pixels, in NumPy.

Symbols and frames
    b_from_a    (..., 4, 4) rigid transform taking points in frame a to frame b; composed as read: c_from_b @ b_from_a
    camera      OpenCV / COLMAP axes: x right, y down, z forward; depth is z
    pixel       the centre of the top-left pixel is (0.5, 0.5); pixel (column i, row j) has its centre at (i + 0.5, j + 0.5)
"""

import numpy as np
from jaxtyping import Float, Shaped


def rigid(rotation: Float[np.ndarray, "*n 3 3"], translation: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 4 4"]:
    """Stack R and tau into [R tau; 0 1]."""
    rotation, translation = np.asarray(rotation, float), np.asarray(translation, float)
    b_from_a = np.zeros((*np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1]), 4, 4))
    b_from_a[..., :3, :3] = rotation
    b_from_a[..., :3, 3] = translation
    b_from_a[..., 3, 3] = 1.0
    return b_from_a


def invert(b_from_a: Float[np.ndarray, "*n 4 4"]) -> Float[np.ndarray, "*n 4 4"]:
    """a_from_b of a rigid transform: the rotation is transposed, not inverted numerically."""
    rotation = np.swapaxes(b_from_a[..., :3, :3], -1, -2)
    return rigid(rotation, -(rotation @ b_from_a[..., :3, 3:])[..., 0])


def transform(b_from_a: Float[np.ndarray, "*n 4 4"], points: Float[np.ndarray, "*n m 3"]) -> Float[np.ndarray, "*n m 3"]:
    """Points of frame a in frame b."""
    return points @ np.swapaxes(b_from_a[..., :3, :3], -1, -2) + b_from_a[..., None, :3, 3]


def project(intrinsics: Float[np.ndarray, "3 3"], points_cam: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
    """Pixel coordinates of points in camera axes. At or behind the camera they are non-finite or mirrored: test z first."""
    homogeneous = points_cam @ intrinsics.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return homogeneous[..., :2] / homogeneous[..., 2:]


def pixel_centres(width: int, height: int) -> Float[np.ndarray, "height width 2"]:
    """Pixel coordinates (x, y) of every pixel centre."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y], -1)


def along_flow(flow_px: Float[np.ndarray, "H W 2"]) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Where each pixel's flow ends, as the maps of columns and rows that cv2.remap takes: it counts pixels' centres from 0."""
    height, width = flow_px.shape[:2]
    column, row = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return column + flow_px[..., 0], row + flow_px[..., 1]


def at_pixel_centres(maps: Shaped[np.ndarray, "*n H W"], width: int, height: int) -> Shaped[np.ndarray, "*n height width"]:
    """Maps at another size: the value on the ray through each new pixel's centre, never a mixture (labels, depth)."""
    rows = ((np.arange(height) + 0.5) * maps.shape[-2] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * maps.shape[-1] / width).astype(int)
    return maps[..., rows[:, None], columns]


def ray_directions(intrinsics: Float[np.ndarray, "3 3"], xy_px: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 3"]:
    """Directions in camera axes with z = 1, so that the ray parameter is z-depth."""
    ones = np.ones((*xy_px.shape[:-1], 1))
    return np.concatenate([xy_px, ones], -1) @ np.linalg.inv(intrinsics).T


def scaled_intrinsics(intrinsics: Float[np.ndarray, "3 3"], factor_x: float, factor_y: float) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of the image resized by the factors. With centres at half pixels this is a plain row scaling."""
    return np.diag([factor_x, factor_y, 1.0]) @ intrinsics


def focal_from_fov(fov_deg: float, width: int) -> float:
    """Focal length in px of a field of view across so many px."""
    return width / (2 * float(np.tan(np.radians(fov_deg) / 2)))


def align_rotations(
    r_est: Float[np.ndarray, "frames 3 3"], r_true: Float[np.ndarray, "frames 3 3"]
) -> Float[np.ndarray, "3 3"]:
    """The rotation A that minimises the sum of |R_est A - R_true|^2 (orthogonal Procrustes, by SVD)."""
    u, _, vt = np.linalg.svd(np.einsum("tji,tjk->ik", r_est, r_true))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt


def rotation_angle_deg(rotation: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n"]:
    """Angle of a rotation matrix, accurate near 0 and 180 degrees (atan2 of |axial part| and trace)."""
    axial = np.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        -1,
    )
    sine, cosine = np.linalg.norm(axial, axis=-1), np.trace(rotation, axis1=-2, axis2=-1) - 1.0
    return np.asarray(np.degrees(np.arctan2(sine, cosine)))


def world_from_obj(
    cam_from_world: Float[np.ndarray, "*n 4 4"], cam_from_obj: Float[np.ndarray, "*n 4 4"], scale: float
) -> Float[np.ndarray, "*n 4 4"]:
    """Similarity that places an object of the given scale in the world (DESIGN section 2).

    A point X of the object is seen by the filming camera at `scale (R X + tau)`, so scaling acts about that camera's centre.
    Returns [scale R_w, t_w; 0, 1].
    """
    scaled = np.array(cam_from_obj, float)
    scaled[..., :3, :] *= scale
    return invert(cam_from_world) @ scaled


def turned_about_pivot(pivot: float, azimuth_deg: float, elevation_deg: float) -> Float[np.ndarray, "4 4"]:
    """view_from_cam of a camera turned around the point (0, 0, pivot) of another one, which stays where it is in the image.

    The view's centre, in the other camera's axes, is pivot (sin a cos e, -sin e, 1 - cos a cos e).
    """
    a, e = np.radians([azimuth_deg, elevation_deg])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    rotation = about_x @ about_y
    view_from_cam = np.eye(4)
    view_from_cam[:3, :3] = rotation
    view_from_cam[:3, 3] = np.array([0, 0, pivot]) - rotation @ np.array([0, 0, pivot])
    return view_from_cam


def viewed_cam_from_obj(
    view_from_world: Float[np.ndarray, "*n 4 4"],
    cam_from_world: Float[np.ndarray, "*n 4 4"],
    cam_from_obj: Float[np.ndarray, "*n 4 4"],
    scale: float,
) -> Float[np.ndarray, "*n 4 4"]:
    """Rigid transform from an object's own frame, in the object's own unit, to another camera than the one that filmed.

    In that unit the view's translation relative to the filming camera is divided by the object's scale:
    multiplying the result's points by `scale` gives world units in the view's axes.
    """
    view_from_cam = view_from_world @ invert(cam_from_world)
    view_from_cam[..., :3, 3] /= scale
    return view_from_cam @ cam_from_obj
