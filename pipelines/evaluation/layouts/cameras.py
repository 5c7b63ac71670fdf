"""Camera conventions of other layouts, turned into ours (`pipelines.geometry`), and what the readers share."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from pipelines import geometry
from pipelines.artifacts import read_json
from pipelines.errors import InputError, WorkspaceError
from pipelines.formats.placement import GL_FROM_CV_CAMERA

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG")
_DISTORTION_LIMIT = 1e-6


def cam_from_world_of_opengl(world_from_gl_camera: Float[np.ndarray, "*n 4 4"]) -> Float[np.ndarray, "*n 4 4"]:
    """From camera-to-world with OpenGL axes (x right, y up, looking along -z)."""
    return geometry.invert(world_from_gl_camera @ GL_FROM_CV_CAMERA)


def pinhole(focal_x_px: float, focal_y_px: float, centre_x_px: float, centre_y_px: float) -> Float[np.ndarray, "3 3"]:
    return np.array([[focal_x_px, 0, centre_x_px], [0, focal_y_px, centre_y_px], [0, 0, 1.0]])


def refuse_distortion(coefficients: Sequence[float], where: Path) -> None:
    """Raises InputError: lenses are pinholes here, and ignoring distortion would spoil every comparison quietly."""
    if max((abs(value) for value in coefficients), default=0.0) > _DISTORTION_LIMIT:
        raise InputError(
            f"{where} has lens distortion {list(coefficients)}: undistort the images first (colmap image_undistorter)"
        )


def document(path: Path) -> Any:
    """A layout's JSON file. Raises InputError where it is missing or damaged."""
    try:
        return read_json(path)
    except WorkspaceError:
        raise InputError(f"{path} is missing or not JSON: the layout needs it") from None


def needed(table: Mapping[str, Any], key: str, where: Path) -> Any:
    """Value of a key that a layout must have. Raises InputError."""
    if key not in table:
        raise InputError(f"{where} has no '{key}': is it of another layout?")
    return table[key]


def image_size(path: Path) -> tuple[int, int]:
    """Width and height. Raises InputError where the file is not an image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise InputError(f"{path} is not a readable image ({error})") from None


def images_in(folder: Path) -> list[Path]:
    """Images of a folder, by the numbers in their names."""
    found = [path for path in folder.glob("*") if path.suffix in IMAGE_SUFFIXES]
    return sorted(found, key=lambda path: (last_number(path.stem), path.name))


def last_number(name: str) -> int:
    """The last run of digits in a name, which counts frames; -1 without one."""
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1


def first_match(folder: Path, stem: str) -> Path:
    """The image of that name with any usual ending. Raises InputError."""
    for suffix in IMAGE_SUFFIXES:
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise InputError(f"{folder} has no image {stem} ({', '.join(IMAGE_SUFFIXES)})")


def matrices(frames: Sequence[Mapping[str, Any]], where: Path) -> Float[np.ndarray, "n 4 4"]:
    """cam_from_world of frames that say their `transform_matrix` in OpenGL's way. Raises InputError."""
    try:
        stated = np.array([needed(frame, "transform_matrix", where) for frame in frames], float).reshape(-1, 4, 4)
        return cam_from_world_of_opengl(stated)
    except (ValueError, np.linalg.LinAlgError):
        raise InputError(f"{where} has a transform_matrix that is not a camera's place: expected 4x4 numbers") from None


def array(path: Path) -> np.ndarray:
    """An array of numbers stored as .npy. Raises InputError where the file is missing, damaged, or holds something else."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a readable array ({error})") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise InputError(f"{path} holds no numbers: expected one array")
    return found


def label_maps(folder: Path, stems: Sequence[str], width: int, height: int) -> UInt8[np.ndarray, "n H W"] | None:
    """Palette or grey-scale PNG label maps of the given names at the images' size; None where the folder is not there."""
    from pipelines import palette_png

    if not folder.is_dir():
        return None
    return np.stack(
        [geometry.at_pixel_centres(palette_png.read(folder / f"{stem}.png")[None], width, height)[0] for stem in stems]
    )


def depth_maps(folder: Path, stems: Sequence[str], width: int, height: int) -> Float32[np.ndarray, "n H W"] | None:
    """Depth maps %s.npy, in world units, at the images' size; 0 where they are not finite. None where the folder is not there.

    Raises InputError: a file is missing, damaged, or no map.
    """
    if not folder.is_dir():
        return None
    if missing := [stem for stem in stems if not (folder / f"{stem}.npy").is_file()]:
        raise InputError(f"{folder} has no {missing[0]}.npy: give a depth map for every frame, or none")
    return np.stack([_depth_map(folder / f"{stem}.npy", width, height) for stem in stems])


def _depth_map(path: Path, width: int, height: int) -> Float32[np.ndarray, "H W"]:
    depth = array(path)
    if depth.ndim == 3 and depth.shape[-1] == 1:
        depth = depth[..., 0]
    if depth.ndim != 2:
        raise InputError(f"{path} holds an array of shape {depth.shape}: a depth map has height and width only")
    return np.nan_to_num(geometry.at_pixel_centres(depth[None], width, height)[0].astype(np.float32), nan=0, posinf=0, neginf=0)
