"""Label maps that somebody else made: DAVIS palette PNG, grey PNG, .npy label maps, KITTI MOTS PNG.

Every reader gives integer maps with the file's own ids, 0 for the background and -1 for pixels to ignore;
`import_masks` checks them against the video and numbers the objects 1 ... K-1.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from pipelines import palette_png
from pipelines.artifacts import MAX_OBJECTS, UNKNOWN
from pipelines.errors import InputError
from pipelines.spread import evenly_spread

IGNORED = -1
MOTS_IGNORED = 10_000
MOTS_CLASS = 1000
"""KITTI MOTS stores class * 1000 + instance (Voigtlaender et al., CVPR 2019, annotation format)."""
MOTS_NAMES = {1: "car", 2: "pedestrian"}
ASPECT_TOLERANCE = 0.02
MANY_LABELS = 6
"""From so many labels on they may be shades of grey."""
WHITE = 65_535
Shown = tuple[float, float, float, float]
WHOLE: Shown = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class ImportedMasks:
    """Label maps at the video's size, and what the objects were called in the files."""

    maps: UInt8[np.ndarray, "T H W"]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def import_masks(path: Path, *, n_frames: int, width: int, height: int, shown: Shown = WHOLE) -> ImportedMasks:
    """Read one label map per frame from a folder of PNG or .npy files, or from one .npy stack (T, H, W).

    Maps of another size than the video are resized by nearest neighbour if their aspect ratio is the video's.
    shown: what the video shows of the picture that was filmed (`Video.shown`); maps of that whole picture are cut likewise.
    Raises InputError: nothing readable, wrong count, wrong shape, more than 253 objects.
    """
    maps, mots, notes = _read_all(path, n_frames=n_frames, width=width, height=height, shown=shown)
    ids = np.unique(maps)
    if set(ids.tolist()) == {0, UNKNOWN} and not mots:
        maps[maps == UNKNOWN] = 1
        ids = np.array([0, 1])
        notes.append(f"the masks in {path} hold only 0 and 255: 255 is taken as the one object, not as 'unknown'")
    objects = [int(i) for i in ids if i > 0 and (mots or i != UNKNOWN)]
    _refuse_soft_edges(path, maps, objects)
    if 0 not in ids:
        raise InputError(f"no pixel of the masks in {path} is background: label 0 must mark the static surroundings")
    if len(objects) >= MAX_OBJECTS:
        raise InputError(f"the masks in {path} hold {len(objects)} objects, at most {MAX_OBJECTS - 1} are possible")
    compact = np.full(maps.shape, UNKNOWN, np.uint8)
    compact[maps == 0] = 0
    for label, original in enumerate(objects, start=1):
        compact[maps == original] = label
    if not objects:
        notes.append(f"the masks in {path} hold no object, only background")
    return ImportedMasks(compact, ("background", *(_name(i, mots) for i in objects)), tuple(notes))


def _refuse_soft_edges(path: Path, maps: Int[np.ndarray, "T H W"], objects: Sequence[int]) -> None:
    """Raises InputError where most labels are nothing but lines: a grey mask with smoothed edges has one for each shade."""
    import cv2

    if len(objects) < MANY_LABELS:
        return
    looked_at = maps[evenly_spread(np.arange(len(maps)), 5)]

    def is_line(label: int) -> bool:
        return not any(cv2.erode((frame == label).astype(np.uint8), np.ones((3, 3), np.uint8)).any() for frame in looked_at)

    lines = sum(is_line(label) for label in objects)
    if lines > len(objects) / 2:
        raise InputError(
            f"the masks in {path} hold {len(objects)} labels, {lines} of them thinner than 3 px: save masks without smoothed "
            "edges, or make them black and white"
        )


def resize_labels(labels: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """Nearest-neighbour resize (..., h, w) -> (..., height, width), pixel centres at half pixels."""
    rows = ((np.arange(height) + 0.5) * labels.shape[-2] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * labels.shape[-1] / width).astype(int)
    return np.ascontiguousarray(labels[..., rows[:, None], columns[None, :]])


def _name(original: int, mots: bool) -> str:
    if not mots:
        return f"object {original}"
    kind, instance = divmod(original, MOTS_CLASS)
    return f"{MOTS_NAMES.get(kind, f'class {kind}')} {instance}"


def _read_all(
    path: Path, *, n_frames: int, width: int, height: int, shown: Shown
) -> tuple[Int[np.ndarray, "T H W"], bool, list[str]]:
    sources, mots = _sources(path)
    if len(sources) != n_frames:
        raise InputError(
            f"{path} holds {len(sources)} label maps, but the working video has {n_frames} frames: give one map per "
            "working frame (with --start, --end, --fps or --max-frames: only those of the frames that are kept)"
        )
    maps = np.empty((n_frames, height, width), np.int32)
    size, is_whole = None, False
    for t, (name, read) in enumerate(sources):
        labels = read()
        if size is None:
            size = labels.shape
            is_whole = _is_whole(size, width=width, height=height, shown=shown)
        if labels.shape != size:
            raise InputError(f"{name} is {labels.shape[1]}x{labels.shape[0]} px, the maps before it {size[1]}x{size[0]} px")
        labels = _cut(labels, shown) if is_whole else labels
        if t == 0:
            _check_aspect(name, labels.shape, width=width, height=height)
        maps[t] = labels if labels.shape == (height, width) else resize_labels(labels, width=width, height=height)
    resized = size != (height, width)
    notes = [f"masks of {size[1]}x{size[0]} px resized to {width}x{height} px"] if resized and size else []
    if is_whole:
        notes[-1] += ", without the black bars that the frames have lost"
    return maps, mots, notes


def _is_whole(size: tuple[int, ...], *, width: int, height: int, shown: Shown) -> bool:
    """Whether maps of this size are of the whole picture that was filmed, of which the frames show less.

    Bars on all sides may leave the aspect ratio as it is; maps that don't have the frames' very size are then taken for whole.
    """
    if shown == WHOLE or size == (height, width):
        return False
    aspect = size[1] / size[0] * height / width
    of_whole = (shown[3] - shown[1]) / (shown[2] - shown[0])
    return bool(abs(np.log(aspect / of_whole)) <= abs(np.log(aspect)))


def _cut(labels: Int[np.ndarray, "H W"], shown: Shown) -> Int[np.ndarray, "h w"]:
    height, width = labels.shape
    left, top, right, bottom = np.round(np.array(shown) * [width, height, width, height]).astype(int)
    return labels[top:bottom, left:right]


def _check_aspect(name: str, size: tuple[int, ...], *, width: int, height: int) -> None:
    h, w = size
    if abs(w * height / (h * width) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"{name} is {w}x{h} px, the video {width}x{height} px: masks need the video's size or at least its aspect ratio"
        )


Source = tuple[str, Callable[[], np.ndarray]]


def _sources(path: Path) -> tuple[Sequence[Source], bool]:
    """One (name, reader) per frame, and whether the files are KITTI MOTS."""
    if path.is_file() and path.suffix == ".npy":
        stack = _load_npy(path)
        if stack.ndim != 3:
            raise InputError(f"{path} has shape {stack.shape}, expected label maps (frames, height, width)")
        return [(f"frame {t} of {path}", lambda t=t: _label_map(stack[t], path)) for t in range(len(stack))], False
    if not path.is_dir():
        raise InputError(f"{path} is neither a folder of masks nor an .npy stack: --masks takes PNG or .npy label maps")
    files = sorted((f for f in path.iterdir() if f.suffix.lower() in (".png", ".npy")), key=_natural)
    kinds = {f.suffix.lower() for f in files}
    if not files:
        raise InputError(f"{path} holds no .png or .npy files: --masks takes one label map per frame")
    if len(kinds) > 1:
        raise InputError(f"{path} mixes .png and .npy files: keep the label maps of one format")
    if kinds == {".npy"}:
        return [(str(f), lambda f=f: _label_map(_load_npy(f), f)) for f in files], False
    wide = _is_sixteen_bit(files[0])
    mots = wide and any(_names_instances(_read_wide(f)) for f in files)
    read = _read_mots if mots else _read_wide if wide else _read_png
    return [(str(f), lambda f=f: read(f)) for f in files], mots


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key under which frame_10 comes after frame_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _load_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a readable .npy label map ({error})") from None


def _label_map(labels: np.ndarray, path: Path) -> Int[np.ndarray, "h w"]:
    if labels.ndim != 2 or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        raise InputError(f"{path} has shape {labels.shape} and type {labels.dtype}, expected integer maps (height, width)")
    wide = np.asarray(labels, np.int64)
    if wide.min(initial=0) < IGNORED or wide.max(initial=0) > np.iinfo(np.int32).max:
        raise InputError(f"{path} holds labels from {wide.min()} to {wide.max()}, expected 0 (background), 1, 2, ...")
    return wide.astype(np.int32)


def _read_png(path: Path) -> Int[np.ndarray, "h w"]:
    return palette_png.read(path).astype(np.int32)


def _open_image_mode(path: Path) -> tuple[str, np.ndarray]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.mode, np.array(image)
    except (OSError, SyntaxError) as error:
        raise InputError(f"{path} is not a readable label map ({error})") from None


def _is_sixteen_bit(path: Path) -> bool:
    return _open_image_mode(path)[0].startswith("I")


def _names_instances(labels: Int[np.ndarray, "h w"]) -> bool:
    """Whether the numbers are those of KITTI MOTS, and not plain labels in 16 bits."""
    return bool(((labels >= MOTS_CLASS) & (labels != MOTS_IGNORED)).any())


def _read_wide(path: Path) -> Int[np.ndarray, "h w"]:
    """A 16-bit PNG; white is 255, as in a black-and-white mask of 8 bits."""
    mode, image = _open_image_mode(path)
    if not mode.startswith("I"):
        raise InputError(f"{path} is a {mode} image among 16-bit label maps: keep the label maps of one format")
    return np.where(image == WHITE, UNKNOWN, image).astype(np.int32)


def _read_mots(path: Path) -> Int[np.ndarray, "h w"]:
    labels = _read_wide(path)
    labels[labels == MOTS_IGNORED] = IGNORED
    return labels
