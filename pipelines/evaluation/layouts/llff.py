"""NVIDIA Dynamic Scene (Yoon et al., CVPR 2020) with LLFF camera files.

    poses_bounds.npy (or poses_bounds_cvd.npy)  (N, 17): 3x5 [R | t | height, width, focal] row by row, near, far.
                                    R is world_from_camera with axes (down, right, backwards); t the camera's centre
    images/                         N filmed frames: time t seen by camera t modulo the number of cameras
    mv_images/%05d/cam%02d.jpg      every camera's view at each time, from the first folder on (optional): all but the filming
                                    one are held out

Without mv_images there are no held-out views. Camera c of the rig, which is the c-th of the names there are, has the pose of
frame c.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipelines import geometry
from pipelines.errors import InputError
from pipelines.evaluation.layouts import cameras
from pipelines.ground_truth import GroundTruth

NAMES = ("poses_bounds_cvd.npy", "poses_bounds.npy")
_FPS = 15.0


def recognises(folder: Path) -> bool:
    return any((folder / name).is_file() for name in NAMES)


def read(folder: Path) -> GroundTruth:
    """Raises InputError where the table has another shape, or images and poses differ in number."""
    path = next(folder / name for name in NAMES if (folder / name).is_file())
    table = cameras.array(path)
    if table.ndim != 2 or table.shape[1] != 17:
        raise InputError(f"{path} has shape {table.shape}: expected (N, 17)")
    images = cameras.images_in(folder / "images")
    if len(images) != len(table):
        raise InputError(f"{folder} has {len(images)} images and {len(table)} poses: expected as many")
    poses = table[:, :15].reshape(-1, 3, 5).astype(float)
    cam_from_world = cam_from_world_of_llff(poses[:, :, :4])
    width, height = cameras.image_size(images[0])
    full_height, full_width, focal_px = poses[0, :, 4]
    intrinsics = np.diag([width / full_width, height / full_height, 1.0]) @ cameras.pinhole(
        focal_px, focal_px, full_width / 2, full_height / 2
    )
    views = _held_out(folder / "mv_images", len(images))
    return GroundTruth(
        folder=folder,
        intrinsics=intrinsics,
        width=width,
        height=height,
        fps=_FPS,
        cam_from_world_train=cam_from_world,
        cam_from_world_test=cam_from_world[[camera for _, camera, _ in views]],
        frame_test=np.array([t for t, _, _ in views], np.int64),
        images_train=tuple(images),
        images_test=tuple(image for _, _, image in views),
    )


def cam_from_world_of_llff(world_from_llff: Float[np.ndarray, "n 3 4"]) -> Float[np.ndarray, "n 4 4"]:
    """LLFF's axes are (down, right, backwards): ours are (right, down, forward)."""
    down, right, backwards = (world_from_llff[:, :, i] for i in range(3))
    rotation = np.stack([right, down, -backwards], -1)
    return geometry.invert(geometry.rigid(rotation, world_from_llff[:, :, 3]))


def _held_out(folder: Path, n_frames: int) -> list[tuple[int, int, Path]]:
    """Time, camera and image of every view that was not filmed."""
    moments = sorted((path for path in folder.glob("*") if path.is_dir() and path.name.isdigit()), key=lambda p: int(p.name))
    shots = [cameras.images_in(moment) for moment in moments[:n_frames]]
    rig = sorted({image.stem for images in shots for image in images}, key=lambda name: (cameras.last_number(name), name))
    if len(rig) > n_frames:
        raise InputError(f"{folder} has {len(rig)} cameras, but only {n_frames} frames tell where they stand")
    views = []
    for t, images in enumerate(shots):
        numbered = [(rig.index(image.stem), image) for image in images]
        views += [(t, camera, image) for camera, image in numbered if camera != t % len(rig)]
    return views
