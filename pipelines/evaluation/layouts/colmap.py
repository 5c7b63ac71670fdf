"""A COLMAP model with its images: sparse/0/ (or sparse/, or the folder itself) and images/.

Held-out are images whose name or folder contains `test`; each belongs to the filmed frame with the nearest number in its name.
Unregistered images are not there, so the filmed video must be registered completely.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipelines.errors import InputError
from pipelines.evaluation.layouts import cameras
from pipelines.evaluation.layouts.processed import DEFAULT_FPS
from pipelines.ground_truth import GroundTruth

_DISTORTION = {"SIMPLE_PINHOLE": (), "PINHOLE": (), "SIMPLE_RADIAL": (3,), "RADIAL": (3, 4), "OPENCV": (4, 5, 6, 7)}
"""Models that can be read, and which of their parameters are distortion."""


def recognises(folder: Path) -> bool:
    return _model_folder(folder) is not None


def read(folder: Path) -> GroundTruth:
    """Raises InputError where the model has no images, images are missing, or a lens has distortion."""
    import pycolmap

    place = _model_folder(folder)
    if place is None:
        raise InputError(f"{folder} has no COLMAP model: expected cameras.bin or cameras.txt in sparse/0, sparse or the folder")
    try:
        model = pycolmap.Reconstruction(str(place))
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{place} is not a whole COLMAP model ({str(error).splitlines()[0]})") from None
    images = sorted(model.images.values(), key=lambda image: (cameras.last_number(Path(image.name).stem), image.name))
    train = [image for image in images if "test" not in image.name.lower()]
    test = [image for image in images if "test" in image.name.lower()]
    if not train:
        raise InputError(f"the COLMAP model in {place} has no filmed image")
    width, height = cameras.image_size(_file(folder, train[0].name))
    filmed = np.array([cameras.last_number(Path(image.name).stem) for image in train])
    times = np.array([cameras.last_number(Path(image.name).stem) for image in test], np.int64)
    return GroundTruth(
        folder=folder,
        intrinsics=_intrinsics(model.cameras[train[0].camera_id], width, height, place),
        width=width,
        height=height,
        fps=DEFAULT_FPS,
        cam_from_world_train=_poses(train),
        cam_from_world_test=_poses(test),
        frame_test=np.abs(filmed[None] - times[:, None]).argmin(1).astype(np.int64),
        images_train=tuple(_file(folder, image.name) for image in train),
        images_test=tuple(_file(folder, image.name) for image in test),
        intrinsics_test=np.array(
            [_intrinsics(model.cameras[image.camera_id], width, height, place) for image in test], float
        ).reshape(-1, 3, 3),
    )


def _model_folder(folder: Path) -> Path | None:
    for place in (folder / "sparse" / "0", folder / "sparse", folder):
        if (place / "cameras.bin").is_file() or (place / "cameras.txt").is_file():
            return place
    return None


def _file(folder: Path, name: str) -> Path:
    for place in (folder / "images" / name, folder / name):
        if place.is_file():
            return place
    raise InputError(f"{folder} has no image {name}, which the COLMAP model lists: expected it in images/")


def _intrinsics(camera: Any, width: int, height: int, where: Path) -> Float[np.ndarray, "3 3"]:
    """At the size of the image files."""
    name = camera.model.name
    if name not in _DISTORTION:
        raise InputError(f"{where} has a camera of model {name}: expected one of {', '.join(_DISTORTION)}")
    cameras.refuse_distortion([float(camera.params[i]) for i in _DISTORTION[name]], where)
    return np.diag([width / camera.width, height / camera.height, 1.0]) @ camera.calibration_matrix()


def _poses(images: list[Any]) -> Float[np.ndarray, "n 4 4"]:
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    for pose, image in zip(poses, images, strict=True):
        pose[:3] = image.cam_from_world().matrix()
    return poses
