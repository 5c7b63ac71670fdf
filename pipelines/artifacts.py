"""What the stages hand to each other, as it lies on disk. Everything is validated on load and on save.

Symbols: T frames, K objects including the background (0), H x W pixels, P tracks, N observations, M points.
Pixel coordinates, axes and transform names follow `pipelines.geometry`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float16, Int, UInt8

from pipelines.errors import WorkspaceError
from pipelines.json_files import read_json, write_json
from pipelines.mapped_arrays import ArrayPlace, array_places, mapped_arrays

BACKGROUND = 0
UNKNOWN = 255
"""Label of pixels that no one may learn from."""
MAX_OBJECTS = 254


def check(condition: bool, what: str) -> None:
    """Refuse an artifact that breaks its contract.

    Raises WorkspaceError: the artifact was written by something else, or damaged.
    """
    if not condition:
        raise WorkspaceError(f"{what}; the artifact is damaged or foreign: run the stage again with --force")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise WorkspaceError(f"{path} is missing: run the stage that makes it again with --force") from None
    except (ValueError, OSError, EOFError) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}): run the stage that makes it again with --force") from None


@dataclass(frozen=True)
class Video:
    """Frames on disk: `%06d.png` (RGB, 8 bit) from 0, and `video.json`."""

    folder: Path
    width: int
    height: int
    n_frames: int
    fps: float
    source: str
    filmed_width: int | None = None
    """Of the footage, px, without bars that were cut off, before it was made smaller; None: the same."""
    shown: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """Left, top, right and bottom of what the frames show of the filmed picture, as shares of its width and height."""
    start_s: float = 0.0
    """When the first frame is shown, from the beginning of the footage."""

    @property
    def reduction(self) -> float:
        """Working pixels per filmed pixel, at most 1."""
        return self.width / (self.filmed_width or self.width)

    @classmethod
    def load(cls, folder: Path) -> "Video":
        described = read_json(folder / "video.json")
        return cls(folder=folder, **described | {"shown": tuple(described.get("shown", (0.0, 0.0, 1.0, 1.0)))})

    def save(self) -> None:
        """Write video.json; the frames are already there."""
        names = ("width", "height", "n_frames", "fps", "source", "filmed_width", "shown", "start_s")
        write_json(self.folder / "video.json", {name: getattr(self, name) for name in names})

    def path(self, t: int) -> Path:
        return self.folder / f"{t:06d}.png"

    def frame(self, t: int) -> UInt8[np.ndarray, "H W 3"]:
        """RGB image of frame t."""
        import cv2

        encoded = np.fromfile(self.path(t), np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        check(image is not None and image.shape == (self.height, self.width, 3), f"frame {self.path(t)} has the wrong size")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        return (self.frame(t) for t in range(self.n_frames))


@dataclass(frozen=True)
class Flow:
    """Optical flow on disk, one file per ordered frame pair, read on demand so that long videos need little memory.

    `{t:06d}_{u:06d}.npz` holds `flow` (float16, H W 2, px: pixel p of frame t is at p + flow in frame u) and `ok`
    (bits of H x W, forward-backward consistent).
    """

    folder: Path
    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def load(cls, folder: Path) -> "Flow":
        listed = read_json(folder / "flow.json")["pairs"]
        return cls(folder, tuple((int(t), int(u)) for t, u in listed))

    def save(self) -> None:
        """Write flow.json, the list of pairs whose files are there."""
        write_json(self.folder / "flow.json", {"pairs": [list(pair) for pair in self.pairs]})

    def path(self, t: int, u: int) -> Path:
        return self.folder / f"{t:06d}_{u:06d}.npz"

    def write(self, t: int, u: int, flow_px: Float[np.ndarray, "H W 2"], ok: Bool[np.ndarray, "H W"]) -> None:
        np.savez(self.path(t, u), flow=flow_px.astype(np.float16), ok=np.packbits(ok, axis=1))

    def read(self, t: int, u: int) -> tuple[Float[np.ndarray, "H W 2"], Bool[np.ndarray, "H W"]]:
        """Flow in px (float32) and where it is consistent."""
        stored = read_arrays(self.path(t, u))
        flow_px = stored["flow"].astype(np.float32)
        return flow_px, np.unpackbits(stored["ok"], axis=1, count=flow_px.shape[1]).astype(bool)

    def places(self, t: int, u: int) -> dict[str, ArrayPlace]:
        """What `mapped` needs to know, for those who come back to the same pairs."""
        return array_places(self.path(t, u))

    def mapped(
        self, t: int, u: int, places: Mapping[str, ArrayPlace]
    ) -> tuple[Float16[np.ndarray, "H W 2"], UInt8[np.ndarray, "H B"]]:
        """Flow and the bits of `ok` as they lie on disk, for those who look at few of their pixels. The first of eight columns
        is the highest bit of a byte."""
        stored = mapped_arrays(self.path(t, u), places)
        return stored["flow"], stored["ok"]


@dataclass(frozen=True)
class Labels:
    """Which object is seen at each pixel: 0 background, 1 ... K-1 objects, 255 unknown.

    On disk `labels/%06d.png` (palette PNG), `segment.json` with the objects' names, and `overlay.mp4` for people.
    """

    maps: UInt8[np.ndarray, "T H W"]
    names: tuple[str, ...]

    DESCRIPTION: ClassVar[str] = "segment.json"

    def __post_init__(self) -> None:
        known = self.maps[self.maps != UNKNOWN]
        highest = int(known.max(initial=0))
        check(
            self.maps.ndim == 3 and self.maps.dtype == np.uint8 and highest < len(self.names) <= MAX_OBJECTS,
            f"label maps of shape {self.maps.shape} and type {self.maps.dtype} use label {highest} for {len(self.names)} names",
        )

    @property
    def n_objects(self) -> int:
        """K, the background included."""
        return len(self.names)

    def joined(self, bodies: Mapping[int, int]) -> "Labels":
        """Maps in which pieces carry the label of their body (`Sfm.bodies`). Names stay: ids mean the same everywhere."""
        return replace(self, maps=_joined_ids(bodies)[self.maps])

    @classmethod
    def load(cls, folder: Path) -> "Labels":
        from pipelines import palette_png

        described = read_json(folder / cls.DESCRIPTION)
        maps = [palette_png.read(folder / "labels" / f"{t:06d}.png") for t in range(described["n_frames"])]
        return cls(np.stack(maps), tuple(described["names"]))

    def save(self, folder: Path) -> None:
        from pipelines import palette_png

        (folder / "labels").mkdir(parents=True, exist_ok=True)
        for t, labels in enumerate(self.maps):
            palette_png.write(folder / "labels" / f"{t:06d}.png", labels)
        write_json(folder / self.DESCRIPTION, {"n_frames": len(self.maps), "names": list(self.names)})


@dataclass(frozen=True)
class Tracks:
    """Points followed through the video, each on one object. `tracks.npz`.

    Observations are sorted by track, then frame; a track need not cover consecutive frames.
    """

    track: Int[np.ndarray, " N"]
    frame: Int[np.ndarray, " N"]
    xy_px: Float[np.ndarray, "N 2"]
    object_id: UInt8[np.ndarray, " P"]

    def __post_init__(self) -> None:
        n = len(self.track)
        check(self.frame.shape == (n,) and self.xy_px.shape == (n, 2), "tracks have columns of different lengths")
        order = self.track.astype(np.int64) * (int(self.frame.max(initial=0)) + 1) + self.frame
        check(bool(np.all(np.diff(order) > 0)), "track observations are not sorted by track and frame, or repeat")
        check(n == 0 or int(self.track[-1]) < len(self.object_id), "an observation names a track that does not exist")

    @classmethod
    def load(cls, folder: Path) -> "Tracks":
        return cls(**read_arrays(folder / "tracks.npz"))

    def save(self, folder: Path) -> None:
        np.savez(folder / "tracks.npz", track=self.track, frame=self.frame, xy_px=self.xy_px, object_id=self.object_id)

    def of_object(self, object_id: int) -> "Tracks":
        """The tracks of one object, renumbered from 0."""
        chosen = self.object_id == object_id
        kept = chosen[self.track]
        renumbered = np.cumsum(chosen) - 1
        return Tracks(renumbered[self.track[kept]], self.frame[kept], self.xy_px[kept], self.object_id[chosen])

    def joined(self, bodies: Mapping[int, int]) -> "Tracks":
        """Tracks on pieces as tracks on their body."""
        return replace(self, object_id=_joined_ids(bodies)[self.object_id])


def _joined_ids(bodies: Mapping[int, int]) -> UInt8[np.ndarray, "256"]:
    """What every id becomes when pieces are joined with their bodies."""
    table = np.arange(256, dtype=np.uint8)
    for piece, body in bodies.items():
        table[piece] = body
    return table


class SfmStatus(StrEnum):
    """How the reconstruction of one object ended. `OK`, `DOUBTFUL` and `ASSUMED_DEPTH` enter the scene."""

    OK = "ok"
    ASSUMED_DEPTH = "assumed-depth"
    """Background without parallax (static or purely rotating camera): put on a far surface at a stated depth."""
    NO_TRACKS = "no-tracks"
    NOT_REGISTERED = "not-registered"
    DOUBTFUL = "doubtful"
    """Reconstructed, but its motion may be a few degrees off, or another motion explains its tracks almost as well. It is in
    the scene, and marked."""
    UNRELIABLE = "unreliable"
    """Reconstructed, but the motion is so uncertain that it would only harm the scene."""
    PIECE = "piece"
    """Moves as another object does: a part of it that was segmented by itself. Later stages see one object."""


@dataclass(frozen=True)
class ObjectModel:
    """One object's structure from motion, in the object's own frame and length unit.

    `cam_from_obj` is the identity where `registered` is false.
    """

    object_id: int
    status: SfmStatus
    reason: str
    """One sentence for people; empty when all went well."""
    registered: Bool[np.ndarray, " T"]
    cam_from_obj: Float[np.ndarray, "T 4 4"]
    points: Float[np.ndarray, "M 3"]
    point_error_px: Float[np.ndarray, " M"]
    point_rgb: UInt8[np.ndarray, "M 3"]
    obs_point: Int[np.ndarray, " N"]
    obs_frame: Int[np.ndarray, " N"]
    obs_xy_px: Float[np.ndarray, "N 2"]
    quality: dict[str, float] = field(default_factory=dict)
    """Figures of the chosen attempt: median reprojection error, held-out error, parallax, ... (names carry units)."""
    piece_of: int | None = None
    """Id of the object that this one is a part of; with status `PIECE` only."""

    ARRAYS = (
        "registered", "cam_from_obj", "points", "point_error_px", "point_rgb", "obs_point", "obs_frame", "obs_xy_px",
    )  # fmt: skip

    @property
    def usable(self) -> bool:
        """Whether the object enters the scene."""
        return self.status in (SfmStatus.OK, SfmStatus.DOUBTFUL, SfmStatus.ASSUMED_DEPTH)

    @classmethod
    def failed(cls, object_id: int, status: SfmStatus, reason: str, n_frames: int) -> "ObjectModel":
        """A typed outcome for an object that could not be reconstructed."""
        return cls(
            object_id=object_id,
            status=status,
            reason=reason,
            registered=np.zeros(n_frames, bool),
            cam_from_obj=np.tile(np.eye(4), (n_frames, 1, 1)),
            points=np.zeros((0, 3)),
            point_error_px=np.zeros(0),
            point_rgb=np.zeros((0, 3), np.uint8),
            obs_point=np.zeros(0, np.int64),
            obs_frame=np.zeros(0, np.int64),
            obs_xy_px=np.zeros((0, 2)),
        )

    @classmethod
    def load(cls, folder: Path) -> "ObjectModel":
        described = read_json(folder / "object.json")
        described["status"] = SfmStatus(described["status"])
        stored: dict[str, Any] = described | read_arrays(folder / "object.npz")
        return cls(**stored)

    def save(self, folder: Path) -> None:
        """Write object.json and object.npz (COLMAP's own files lie beside them in `sparse/`)."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "object.npz", **{name: getattr(self, name) for name in self.ARRAYS})
        described = {name: getattr(self, name) for name in ("object_id", "status", "reason", "quality", "piece_of")}
        write_json(folder / "object.json", described)


@dataclass(frozen=True)
class Sfm:
    """All objects' reconstructions and the camera's intrinsics. `sfm.json`, `object_{k:02d}/`."""

    intrinsics: Float[np.ndarray, "3 3"]
    width: int
    height: int
    objects: tuple[ObjectModel, ...]
    """One per object of the label maps, `objects[k].object_id == k`, failed ones included."""
    focal_source: str = "given"
    """Where the focal length comes from: `given`, `self-calibrated`, or `assumed`."""
    focal_uncertainty: float = 0.0
    """Its expected error, as a share of it; 0 where it was given."""

    def __post_init__(self) -> None:
        ids = [model.object_id for model in self.objects]
        check(ids == list(range(len(ids))), f"the reconstruction lists objects {ids}, expected 0 ... K-1")

    @property
    def scene_ids(self) -> list[int]:
        """Label ids of the objects that enter the scene, the background first."""
        return [model.object_id for model in self.objects if model.usable]

    @property
    def bodies(self) -> dict[int, int]:
        """The object that each piece is a part of."""
        return {model.object_id: model.piece_of for model in self.objects if model.piece_of is not None}

    def corrected(self, labels: Labels, folder: Path) -> Labels:
        """The label maps as the motions correct them; `folder` is where the reconstruction lies.

        Pieces carry the label of their body. Where something else was found in an object's mask, the maps lie in the folder.
        """
        return Labels.load(folder) if (folder / Labels.DESCRIPTION).is_file() else labels.joined(self.bodies)

    @classmethod
    def load(cls, folder: Path) -> "Sfm":
        described = read_json(folder / "sfm.json")
        models = [ObjectModel.load(folder / f"object_{k:02d}") for k in range(described["n_objects"])]
        return cls(
            np.array(described["intrinsics"], float),
            described["width"],
            described["height"],
            tuple(models),
            described["focal_source"],
            described.get("focal_uncertainty", 0.0),
        )

    def save(self, folder: Path) -> None:
        for model in self.objects:
            model.save(folder / f"object_{model.object_id:02d}")
        described = {
            "intrinsics": self.intrinsics.tolist(),
            "width": self.width,
            "height": self.height,
            "n_objects": len(self.objects),
            "focal_source": self.focal_source,
            "focal_uncertainty": self.focal_uncertainty,
        }
        write_json(folder / "sfm.json", described)


@dataclass(frozen=True)
class Samples:
    """Sampled scale combinations, best spread first (the first m are a diverse subset). `samples.npz`, `samples.csv`.

    Columns are the scene's objects, `object_ids[j]` being the label of column j; column 0 is the background, log scale 0.
    """

    log_scale: Float[np.ndarray, "n K"]
    score: Float[np.ndarray, " n"]
    object_ids: Int[np.ndarray, " K"]

    def __post_init__(self) -> None:
        n, k = self.log_scale.shape
        check(self.score.shape == (n,) and self.object_ids.shape == (k,), "samples have columns of different lengths")
        check(bool(np.all(self.log_scale[:, 0] == 0)), "the background's scale is not 1 in every sample")

    @property
    def scale(self) -> Float[np.ndarray, "n K"]:
        return np.exp(self.log_scale)

    @classmethod
    def none(cls, object_ids: Sequence[int]) -> "Samples":
        """No scene was found."""
        return cls(np.zeros((0, len(object_ids))), np.zeros(0), np.array(object_ids))

    @classmethod
    def load(cls, folder: Path) -> "Samples":
        return cls(**read_arrays(folder / "samples.npz"))

    def save(self, folder: Path) -> None:
        np.savez(folder / "samples.npz", log_scale=self.log_scale, score=self.score, object_ids=self.object_ids)
        header = ",".join(["sample", "score", *(f"scale_{k}" for k in self.object_ids)])
        rows = (
            ",".join([str(i), f"{score:.6f}", *(f"{s:.9g}" for s in scales)])
            for i, (score, scales) in enumerate(zip(self.score, self.scale, strict=True))
        )
        (folder / "samples.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
