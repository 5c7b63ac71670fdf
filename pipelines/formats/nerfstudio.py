"""nerfstudio's `transforms.json`: the filming camera in the background's frame, with images and masks.

transform_matrix is world_from_camera with OpenGL camera axes (x right, y up, looking along -z); the world's axes stay those
of the background's frame, so `applied_transform` is the identity, and points are as they are. Pixel centres are at +0.5, as
here. Masks are white where the background is seen: movers and unknown pixels are left out of training.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pipelines.artifacts import BACKGROUND, Labels, ObjectModel, Video, write_json
from pipelines.formats.placement import GL_FROM_CV_CAMERA
from pipelines.geometry import invert

POINTS_FILE = "sparse_pc.ply"
"""As nerfstudio's own converters name it; the path in `ply_file_path` is relative to the folder."""


def transforms(
    intrinsics: Float[np.ndarray, "3 3"],
    width: int,
    height: int,
    cam_from_world: Float[np.ndarray, "T 4 4"],
    registered: Bool[np.ndarray, " T"],
) -> dict[str, Any]:
    """The document, listing registered frames only; files are `images/%06d.png` and `masks/%06d.png`."""
    world_from_gl_camera = invert(cam_from_world) @ GL_FROM_CV_CAMERA
    frames = [
        {
            "file_path": f"images/{t:06d}.png",
            "mask_path": f"masks/{t:06d}.png",
            "transform_matrix": world_from_gl_camera[t].tolist(),
        }
        for t in np.flatnonzero(registered)
    ]
    return {
        "camera_model": "OPENCV",
        "fl_x": float(intrinsics[0, 0]),
        "fl_y": float(intrinsics[1, 1]),
        "cx": float(intrinsics[0, 2]),
        "cy": float(intrinsics[1, 2]),
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "w": width,
        "h": height,
        "applied_transform": np.eye(4)[:3].tolist(),
        "frames": frames,
    }


def camera_of(document: dict[str, Any], index: int) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]:
    """Intrinsics and cam_from_world (OpenCV axes) of one listed frame."""
    intrinsics = np.array([[document["fl_x"], 0, document["cx"]], [0, document["fl_y"], document["cy"]], [0, 0, 1.0]])
    return intrinsics, invert(np.array(document["frames"][index]["transform_matrix"]) @ GL_FROM_CV_CAMERA)


def write_nerfstudio(
    folder: Path,
    *,
    intrinsics: Float[np.ndarray, "3 3"],
    cam_from_world: Float[np.ndarray, "T 4 4"],
    registered: Bool[np.ndarray, " T"],
    video: Video,
    labels: Labels,
    background: ObjectModel | None = None,
) -> Path:
    """A folder that nerfstudio trains on: transforms.json, images, masks, and the points of the background, if given, from
    which splatfacto starts (else it starts from random ones)."""
    import shutil

    from PIL import Image

    from pipelines.formats.mesh_files import write_points

    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for t in np.flatnonzero(registered):
        shutil.copyfile(video.path(int(t)), folder / "images" / f"{t:06d}.png")
        seen = (labels.maps[t] == BACKGROUND).astype(np.uint8) * 255
        Image.fromarray(seen).save(folder / "masks" / f"{t:06d}.png")
    document = transforms(intrinsics, video.width, video.height, cam_from_world, registered)
    if background is not None and len(background.points) > 0:
        write_points(folder / POINTS_FILE, background.points, background.point_rgb)
        document["ply_file_path"] = POINTS_FILE
    write_json(folder / "transforms.json", document)
    return folder / "transforms.json"
