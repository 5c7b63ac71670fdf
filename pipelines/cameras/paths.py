"""Camera paths: which moment of the scene is looked at from where.

Frames and units: `view_from_world` takes the background's frame to the viewing camera (OpenCV axes). Paths about a pivot
turn the filming camera around the point that lies `pivot` world units straight ahead of it, and keep that point in the
middle of the image; azimuth turns to the camera's right, elevation upwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipelines.errors import InputError
from pipelines.geometry import scaled_intrinsics, turned_about_pivot

SHAPE_TOLERANCE = 0.02
"""Share of its height by which a picture may miss the shape that intrinsics are for."""


class PathKind(StrEnum):
    """Camera paths by name; any other path is a JSON file."""

    FILMED = "filmed"
    """The camera as it filmed."""
    SWAY = "sway"
    """Time runs; a small loop around the filming camera, the usual way to show depth."""
    ORBIT = "orbit"
    """Time runs; a wide swing to the left and right of the filming camera."""
    FREEZE = "freeze"
    """Time stands still; the camera swings as in orbit."""


@dataclass(frozen=True)
class Shot:
    """One image to render. `view_from_world` None means the filming camera; intrinsics None those of the video."""

    t: int
    view_from_world: Float[np.ndarray, "4 4"] | None = None
    intrinsics: Float[np.ndarray, "3 3"] | None = None


def sway(
    cam_from_world: Float[np.ndarray, "T 4 4"],
    frames: Sequence[int],
    pivots: Float[np.ndarray, " n"],
    *,
    amplitude_deg: float,
    period_frames: int,
) -> list[Shot]:
    """A loop: full amplitude sideways, half of it up and down; the clip is passed once."""
    shots = []
    for i, (t, pivot) in enumerate(zip(frames, pivots, strict=True)):
        phase = 2 * np.pi * i / period_frames
        turn = turned_about_pivot(float(pivot), amplitude_deg * np.sin(phase), 0.5 * amplitude_deg * np.cos(phase))
        shots.append(Shot(t, turn @ cam_from_world[t]))
    return shots


def orbit(
    cam_from_world: Float[np.ndarray, "T 4 4"], frames: Sequence[int], pivots: Float[np.ndarray, " n"], *, amplitude_deg: float
) -> list[Shot]:
    """One swing to the right, to the left and back over the listed frames (repeat one frame to stop time)."""
    shots = []
    for i, (t, pivot) in enumerate(zip(frames, pivots, strict=True)):
        azimuth_deg = amplitude_deg * np.sin(2 * np.pi * i / max(len(frames), 1))
        shots.append(Shot(t, turned_about_pivot(float(pivot), azimuth_deg, 0.0) @ cam_from_world[t]))
    return shots


def read_path(path: Path, n_frames: int, *, width: int, height: int) -> list[Shot]:
    """A camera path of one's own, for pictures of width x height px.

    {"frames": [{"t": 0, "view_from_world": [[...] x 4]}, ...],
     "intrinsics": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], "width": 1920, "height": 1080}

    with rigid transforms in OpenCV axes. The rest is optional, for all or per frame; width and height say which size the
    intrinsics are for (else the rendered one). Other keys are left alone.

    Raises InputError for a file that is missing, is not JSON, or says something else.
    """
    import json

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(PathKind)
        raise InputError(f"camera path {str(path)!r} is neither a file nor one of: {known}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"camera path {path} is not JSON ({error}); see docs/formats.md for the format") from None
    listed = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not listed:
        raise InputError(
            f'camera path {path} has no frames, expected {{"frames": [{{"t": 0, "view_from_world": 4 x 4}}, ...]}}'
        )
    shared = {key: document[key] for key in ("intrinsics", "width", "height") if key in document}
    shots = []
    for i, entry in enumerate(listed):
        where = f"camera path {path}, entry {i}"
        if not isinstance(entry, dict) or "t" not in entry or "view_from_world" not in entry:
            raise InputError(f"{where}: expected the keys t and view_from_world")
        shots.append(_shot(shared | entry, n_frames, (width, height), where))
    return shots


def _shot(entry: dict[str, Any], n_frames: int, size: tuple[int, int], where: str) -> Shot:
    t = entry["t"]
    if not isinstance(t, int) or not 0 <= t < n_frames:
        raise InputError(f"{where}: t = {t!r}, expected a frame from 0 to {n_frames - 1}")
    return Shot(t, _rigid(entry["view_from_world"], f"{where}: view_from_world"), _intrinsics(entry, size, where))


def _rigid(content: Any, where: str) -> Float[np.ndarray, "4 4"]:
    b_from_a = _matrix(content, 4, where)
    rotation = b_from_a[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise InputError(f"{where} does not start with a rotation, expected a rigid transform")
    if not np.allclose(b_from_a[3], [0, 0, 0, 1], atol=1e-6):
        raise InputError(
            f"{where} looks transposed (its last row is {b_from_a[3].tolist()}):"
            " give rows, as [[r, r, r, x], [r, r, r, y], [r, r, r, z], [0, 0, 0, 1]]"
        )
    return b_from_a


def _intrinsics(entry: dict[str, Any], size: tuple[int, int], where: str) -> Float[np.ndarray, "3 3"] | None:
    """Those of an entry, scaled from the size that it says to the rendered one; None where it has none."""
    if entry.get("intrinsics") is None:
        return None
    where = f"{where}: intrinsics"
    intrinsics = _matrix(entry["intrinsics"], 3, where)
    upper = np.allclose(intrinsics, np.triu(intrinsics)) and np.isclose(intrinsics[2, 2], 1)
    if not upper or min(intrinsics[0, 0], intrinsics[1, 1]) <= 0:
        raise InputError(
            f"{where} are {intrinsics.tolist()}, expected rows as [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0"
        )
    if entry.get("width") is None and entry.get("height") is None:
        return _inside(intrinsics, size, where)
    return _resized(intrinsics, entry.get("width"), entry.get("height"), size, where)


def _inside(intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int], where: str) -> Float[np.ndarray, "3 3"]:
    """Intrinsics that say no size are for the rendered one, unless their centre shows that they can't be."""
    cx, cy = intrinsics[:2, 2]
    if not (0 <= cx <= size[0] and 0 <= cy <= size[1]):
        raise InputError(
            f"{where} have their centre at ({cx:g}, {cy:g}), outside of the picture of {size[0]} x {size[1]} px:"
            ' say with "width" and "height" which size they are for'
        )
    return intrinsics


def _resized(
    intrinsics: Float[np.ndarray, "3 3"], given_width: Any, given_height: Any, size: tuple[int, int], where: str
) -> Float[np.ndarray, "3 3"]:
    if not all(isinstance(side, int | float) and 0 < side < np.inf for side in (given_width, given_height)):
        raise InputError(f"{where} are for a size of {given_width!r} x {given_height!r}, expected width and height in px")
    width, height = size
    # Heights are rounded, so shapes may differ by a pixel.
    if abs(given_height * width / given_width - height) > max(1.0, SHAPE_TOLERANCE * height):
        raise InputError(
            f"{where} are for {given_width:g} x {given_height:g} px, another shape than the picture of {width} x {height} px"
        )
    return scaled_intrinsics(intrinsics, width / given_width, height / given_height)


def _matrix(content: Any, side: int, where: str) -> Float[np.ndarray, "n n"]:
    try:
        matrix = np.array(content, float)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape != (side, side) or not np.isfinite(matrix).all():
        raise InputError(f"{where} is not a {side} x {side} matrix of numbers")
    return matrix
