"""nerfstudio's transforms.json: one list of frames with OpenGL camera-to-world matrices.

Held-out views are the frames named in `test_filenames` or `val_filenames`, or those whose file lies in a folder such as `test`,
`val` or `images_test`. A frame's time is its `time` (in [0, 1] over the clip), else the number in its file name, else, for
filmed frames, its place in the list.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from pipelines.errors import InputError
from pipelines.evaluation.layouts import cameras
from pipelines.evaluation.layouts.processed import DEFAULT_FPS, intrinsics_of
from pipelines.ground_truth import GroundTruth


def recognises(folder: Path) -> bool:
    return (folder / "transforms.json").is_file()


def read(folder: Path) -> GroundTruth:
    """Raises InputError where images are missing, a lens has distortion, or no frame is left to film with."""
    where = folder / "transforms.json"
    document = cameras.document(where)
    frames = [frame for frame in cameras.needed(document, "frames", where) if cameras.needed(frame, "file_path", where)]
    held_out = {Path(name).as_posix() for key in ("test_filenames", "val_filenames") for name in document.get(key, [])}
    test = [frame for frame in frames if _is_held_out(frame, held_out)]
    train = sorted((frame for frame in frames if not _is_held_out(frame, held_out)), key=_order)
    if not train:
        raise InputError(f"{where} lists no filmed frame: all are held out")
    width, height = cameras.image_size(_image(folder, train[0]))
    return GroundTruth(
        folder=folder,
        intrinsics=intrinsics_of(document | _intrinsics(train[0]), width, height, where),
        width=width,
        height=height,
        fps=float(document.get("fps", DEFAULT_FPS)),
        cam_from_world_train=cameras.matrices(train, where),
        cam_from_world_test=cameras.matrices(test, where),
        frame_test=_times(test, train),
        images_train=tuple(_image(folder, frame) for frame in train),
        images_test=tuple(_image(folder, frame) for frame in test),
        intrinsics_test=np.array(
            [intrinsics_of(document | _intrinsics(frame), width, height, where) for frame in test], float
        ).reshape(-1, 3, 3),
    )


def _is_held_out(frame: dict[str, Any], named: set[str]) -> bool:
    path = Path(frame["file_path"])
    in_folder = any(re.search(r"(^|[_-])(test|val)([_-]|$)", part.lower()) for part in path.parts[:-1])
    return path.as_posix() in named or in_folder


def _intrinsics(frame: dict[str, Any]) -> dict[str, Any]:
    """What a frame says about its own lens."""
    known = ("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "k3", "k4", "p1", "p2", "camera_model", "camera_angle_x")
    return {key: frame[key] for key in known if key in frame}


def _order(frame: dict[str, Any]) -> tuple[float, int]:
    return float(frame.get("time", 0)), cameras.last_number(Path(frame["file_path"]).stem)


def _times(test: list[dict[str, Any]], train: list[dict[str, Any]]) -> Int[np.ndarray, " V"]:
    """The filmed frame that each held-out one is nearest to in time."""
    key = 0 if all("time" in frame for frame in [*test, *train]) else 1
    filmed = np.array([_order(frame)[key] for frame in train], float)
    return np.array([np.abs(filmed - _order(frame)[key]).argmin() for frame in test], np.int64)


def _image(folder: Path, frame: dict[str, Any]) -> Path:
    path = folder / frame["file_path"]
    return path if path.is_file() else cameras.first_match(path.parent, path.stem)
