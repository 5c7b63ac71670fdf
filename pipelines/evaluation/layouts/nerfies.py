"""Nerfies, HyperNeRF and DyCheck.

    dataset.json        ids, train_ids, val_ids
    metadata.json       id -> {time_id (or warp_id), camera_id, ...}
    camera/ID.json      orientation (world to camera, OpenCV axes), position (the camera's centre), focal_length,
                        principal_point, skew, pixel_aspect_ratio, radial_distortion, tangential_distortion, image_size
    rgb/{factor}x/ID.png
    covisible/{factor}x/val/ID.png   (DyCheck, optional) white where the filmed frames show enough
    scene.json          scale, center: not used, the world stays the one of the camera files

Filmed are the train ids in the order of their times; the val ids are held out.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines import geometry
from pipelines.errors import InputError
from pipelines.evaluation.layouts import cameras
from pipelines.ground_truth import GroundTruth, read_rgb

_FPS = 30.0


def recognises(folder: Path) -> bool:
    return (folder / "dataset.json").is_file() and (folder / "camera").is_dir()


def read(folder: Path) -> GroundTruth:
    """At the largest size of images there is. Raises InputError where files are missing or a lens has distortion."""
    where = folder / "dataset.json"
    dataset = cameras.document(where)
    metadata = cameras.document(folder / "metadata.json")
    listed = [item for key in ("train_ids", "val_ids") for item in cameras.needed(dataset, key, where)]
    time = {item: _time(cameras.needed(metadata, item, folder / "metadata.json"), folder) for item in listed}
    train = sorted(cameras.needed(dataset, "train_ids", where), key=lambda item: (time[item], item))
    test = sorted(cameras.needed(dataset, "val_ids", where), key=lambda item: (time[item], item))
    if not train:
        raise InputError(f"{where} lists no train_ids: there is no filmed video")
    factor = _largest(folder / "rgb")
    images = {item: cameras.first_match(folder / "rgb" / factor, item) for item in [*train, *test]}
    width, height = cameras.image_size(images[train[0]])
    lenses = {item: _lens(folder / "camera" / f"{item}.json", width, height) for item in [*train, *test]}
    filmed = np.array([time[item] for item in train])
    return GroundTruth(
        folder=folder,
        intrinsics=lenses[train[0]][0],
        width=width,
        height=height,
        fps=_FPS,
        cam_from_world_train=np.array([lenses[item][1] for item in train]),
        cam_from_world_test=np.array([lenses[item][1] for item in test]).reshape(-1, 4, 4),
        frame_test=_nearest(filmed, np.array([time[item] for item in test])),
        images_train=tuple(images[item] for item in train),
        images_test=tuple(images[item] for item in test),
        covisible_test=_covisible(folder / "covisible", test, width, height),
        intrinsics_test=np.array([lenses[item][0] for item in test]).reshape(-1, 3, 3),
    )


def _time(entry: dict[str, Any], folder: Path) -> int:
    for key in ("time_id", "warp_id", "appearance_id"):
        if key in entry:
            return int(entry[key])
    raise InputError(f"{folder / 'metadata.json'} gives no time_id or warp_id: the times of the frames are not known")


def _nearest(filmed: Int[np.ndarray, " T"], times: Int[np.ndarray, " V"]) -> Int[np.ndarray, " V"]:
    """The filmed frame nearest to each time."""
    return np.abs(filmed[None] - times[:, None]).argmin(1) if len(times) else np.zeros(0, np.int64)


def _largest(folder: Path) -> str:
    """Name of the folder with the least reduced images: 1x before 2x."""
    found = (path.name for path in folder.glob("*x") if path.is_dir() and path.name[:-1].isdigit())
    factors = sorted(found, key=lambda name: int(name[:-1]))
    if not factors:
        raise InputError(f"{folder} has no folder like 1x or 2x with images")
    return factors[0]


def _lens(path: Path, width: int, height: int) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]:
    """Intrinsics at the images' size, and cam_from_world."""
    camera = cameras.document(path)
    names = ("radial_distortion", "tangential_distortion", "tangential")
    distortion = [*(value for name in names for value in camera.get(name) or []), camera.get("skew", 0.0)]
    cameras.refuse_distortion([float(value) for value in distortion], path)
    focal = float(cameras.needed(camera, "focal_length", path))
    full_width, full_height = cameras.needed(camera, "image_size", path)
    centre_x, centre_y = cameras.needed(camera, "principal_point", path)
    intrinsics = cameras.pinhole(focal, focal * float(camera.get("pixel_aspect_ratio", 1.0)), float(centre_x), float(centre_y))
    rotation = np.array(cameras.needed(camera, "orientation", path), float)
    position = np.array(cameras.needed(camera, "position", path), float)
    factors = np.diag([width / full_width, height / full_height, 1.0])
    return factors @ intrinsics, geometry.rigid(rotation, -rotation @ position)


def _covisible(folder: Path, items: list[str], width: int, height: int) -> Bool[np.ndarray, "V H W"] | None:
    """At the images' size, from whatever size there is: DyCheck gives them at half of it."""
    masks = sorted((path for path in folder.glob("[0-9]*x/val") if path.is_dir()), key=lambda path: int(path.parent.name[:-1]))
    if not masks or not items:
        return None
    found = [read_rgb(cameras.first_match(masks[0], item)).max(-1) > 127 for item in items]
    return np.stack([geometry.at_pixel_centres(mask[None], width, height)[0] for mask in found])
