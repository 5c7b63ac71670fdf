"""Processed data as papers on dynamic scenes hand it out: a folder per kind of map, and transforms with object poses.

images_train/ images_test/      %04d.png or .jpg, the same times
segm_train/ segm_test/          %04d.png label maps (optional)
depth_train/ depth_test/        %04d.npy z-depth in world units (optional)
transforms_train.json           fl_x, fl_y, cx, cy (or camera_angle_x), and
transforms_test.json            frames: [{file_path, transform_matrix: 4x4 world_from_camera, OpenGL camera axes,
                                          object_poses: [4x4 world_from_object, ...] without the background (optional)}]
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipelines.errors import InputError
from pipelines.evaluation.layouts import cameras
from pipelines.ground_truth import GroundTruth

DEFAULT_FPS = 24.0
LENS = {"fl_x", "camera_angle_x"}
PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "perspective")
"""Models of cameras that are pinholes where they have no distortion."""


def recognises(folder: Path) -> bool:
    return (folder / "transforms_train.json").is_file()


def read(folder: Path) -> GroundTruth:
    """Raises InputError where a listed file is missing, or train and test differ in length."""
    train = cameras.document(folder / "transforms_train.json")
    test = cameras.document(folder / "transforms_test.json")
    where = {part: folder / f"transforms_{part}.json" for part in ("train", "test")}
    frames_train, frames_test = _frames(train, where["train"]), _frames(test, where["test"])
    images_train, images_test = _images(folder, frames_train, "train"), _images(folder, frames_test, "test")
    if len(images_train) != len(images_test):
        raise InputError(
            f"{folder} has {len(images_train)} filmed frames and {len(images_test)} held-out ones: expected as many"
        )
    width, height = cameras.image_size(images_train[0])
    stems_train, stems_test = [p.stem for p in images_train], [p.stem for p in images_test]
    return GroundTruth(
        folder=folder,
        intrinsics=intrinsics_of(train, width, height, where["train"]),
        width=width,
        height=height,
        fps=float(train.get("fps", DEFAULT_FPS)),
        cam_from_world_train=cameras.matrices(frames_train, where["train"]),
        cam_from_world_test=cameras.matrices(frames_test, where["test"]),
        frame_test=np.arange(len(images_test)),
        images_train=tuple(images_train),
        images_test=tuple(images_test),
        world_from_object=_object_poses(frames_train),
        depth_train=cameras.depth_maps(folder / "depth_train", stems_train, width, height),
        depth_test=cameras.depth_maps(folder / "depth_test", stems_test, width, height),
        segm_train=cameras.label_maps(folder / "segm_train", stems_train, width, height),
        segm_test=cameras.label_maps(folder / "segm_test", stems_test, width, height),
        intrinsics_test=np.tile(
            intrinsics_of(test if LENS & test.keys() else train, width, height, where["test"]), (len(images_test), 1, 1)
        ),
    )


def intrinsics_of(document: dict[str, Any], width: int, height: int, where: Path) -> Float[np.ndarray, "3 3"]:
    """Focal lengths in px, or a horizontal angle of view; the centre is the image's unless given.

    `w` and `h`, where given, are the size that the pixels refer to. Raises InputError without a focal length.
    """
    cameras.refuse_distortion([float(document.get(key, 0)) for key in ("k1", "k2", "k3", "k4", "p1", "p2")], where)
    if (model := document.get("camera_model", "PINHOLE")) not in PERSPECTIVE:
        raise InputError(f"{where} has a camera of model {model}: expected one of {', '.join(PERSPECTIVE)}")
    if "fl_x" in document:
        focal_x = float(document["fl_x"])
    elif "camera_angle_x" in document:
        focal_x = 0.5 * float(document.get("w", width)) / np.tan(0.5 * float(document["camera_angle_x"]))
    else:
        raise InputError(f"{where} has neither fl_x nor camera_angle_x: the focal length is not known")
    full_width, full_height = float(document.get("w", width)), float(document.get("h", height))
    focal_y = float(document.get("fl_y", focal_x))
    centre = float(document.get("cx", full_width / 2)), float(document.get("cy", full_height / 2))
    factors = np.diag([width / full_width, height / full_height, 1.0])
    return factors @ cameras.pinhole(focal_x, focal_y, *centre)


def _frames(document: dict[str, Any], where: Path) -> list[dict[str, Any]]:
    """In the order of the numbers in their names, which is the order in which the images are a video."""
    frames = cameras.needed(document, "frames", where)
    return sorted(frames, key=lambda frame: cameras.last_number(Path(cameras.needed(frame, "file_path", where)).stem))


def _images(folder: Path, frames: list[dict[str, Any]], part: str) -> list[Path]:
    return [cameras.first_match(folder / f"images_{part}", Path(frame["file_path"]).stem) for frame in frames]


def _object_poses(frames: list[dict[str, Any]]) -> Float[np.ndarray, "T K 4 4"] | None:
    """With the background, which is the world, put first."""
    if not all("object_poses" in frame for frame in frames):
        return None
    poses = [np.array(frame["object_poses"], float).reshape(-1, 4, 4) for frame in frames]
    return np.stack([np.concatenate([np.eye(4)[None], objects]) for objects in poses])
