"""Arrays of an .npz file that is not compressed, looked at where they lie on disk."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.errors import WorkspaceError


class ArrayPlace(NamedTuple):
    """Where an array lies in an .npz file that is not compressed. offset: bytes from the file's beginning."""

    offset: int
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype


def array_places(path: Path) -> dict[str, ArrayPlace]:
    """Of all arrays in a file, by name.

    Raises WorkspaceError: the file is missing, damaged, or compressed.
    """
    places = {}
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise ValueError("it is compressed")
                # An entry's own header tells how long it is itself, in its last four bytes.
                file.seek(entry.header_offset + 26)
                file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError(f"{entry.filename} has an unknown form")
                header = np.lib.format.read_array_header_1_0(file)
                places[entry.filename.removesuffix(".npy")] = ArrayPlace(file.tell(), *header)
    except FileNotFoundError:
        raise WorkspaceError(f"{path} is missing: run the stage that makes it again with --force") from None
    except (ValueError, OSError, EOFError, struct.error, zipfile.BadZipFile) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}): run the stage that makes it again with --force") from None
    return places


def mapped_arrays(path: Path, places: Mapping[str, ArrayPlace]) -> dict[str, np.ndarray]:
    """Arrays of a file without reading them: what is looked at is read. places: `array_places`."""
    content = np.memmap(path, np.uint8, "r")
    arrays = {}
    for name, place in places.items():
        n_bytes = int(np.prod(place.shape)) * place.dtype.itemsize
        flat = content[place.offset : place.offset + n_bytes].view(place.dtype)
        arrays[name] = flat.reshape(place.shape, order="F" if place.is_fortran else "C")
    return arrays
