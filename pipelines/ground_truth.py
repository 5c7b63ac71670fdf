"""What is known of a scene whose truth is known: cameras, object motion, images, depth, labels, held-out views.

Symbols: T frames, V held-out views, K objects including the background (0), H x W pixels. Depth is z-depth in world
units, 0 = nothing hit; transforms and pixels follow `pipelines.geometry`. Object k's depth alone is its depth in the
filmed view with all other objects taken away, so it is known where the object is hidden, too.

On disk, our own layout is one folder:
    gt.npz            K (3 3); cam_from_world_train, cam_from_world_test (T 4 4); world_from_object (T K 4 4);
                      depth_train, depth_test (T H W); segm_train, segm_test (T H W, uint8); depth_alone (T K H W);
                      size = (W, H); fps. Depths may be stored as float16.
    images_train/     %04d.png, the filmed frames, RGB
    images_test/      %04d.png, the same times seen by another camera
    video.mp4         the filmed frames
Other layouts are read by the modules of `pipelines.evaluation.layouts`; what they don't know is None.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipelines.artifacts import read_arrays
from pipelines.errors import InputError

KEYS = (
    "K", "cam_from_world_train", "cam_from_world_test", "world_from_object", "depth_train", "depth_test",
    "segm_train", "segm_test", "depth_alone", "size", "fps",
)  # fmt: skip


@dataclass(frozen=True)
class GroundTruth:
    """One scene's truth. Images are read on demand; the rest is in memory."""

    folder: Path
    intrinsics: Float[np.ndarray, "3 3"]
    width: int
    height: int
    fps: float
    cam_from_world_train: Float[np.ndarray, "T 4 4"]
    cam_from_world_test: Float[np.ndarray, "V 4 4"]
    frame_test: Int[np.ndarray, " V"]
    """Time of each held-out view, as an index into the filmed frames."""
    images_train: tuple[Path, ...] = ()
    images_test: tuple[Path, ...] = ()
    world_from_object: Float[np.ndarray, "T K 4 4"] | None = None
    depth_train: Float[np.ndarray, "T H W"] | None = None
    depth_test: Float[np.ndarray, "V H W"] | None = None
    segm_train: UInt8[np.ndarray, "T H W"] | None = None
    segm_test: UInt8[np.ndarray, "V H W"] | None = None
    depth_alone: Float[np.ndarray, "T K H W"] | None = None
    covisible_test: Bool[np.ndarray, "V H W"] | None = None
    """Pixels of the held-out views that the filmed video shows often enough to judge (None: all)."""
    intrinsics_test: Float[np.ndarray, "V 3 3"] | None = None
    """Intrinsics of each held-out view where they differ from the filmed camera's."""

    @property
    def n_frames(self) -> int:
        return len(self.cam_from_world_train)

    @property
    def n_test(self) -> int:
        """V, the number of held-out views."""
        return len(self.cam_from_world_test)

    @property
    def n_objects(self) -> int:
        """K, the background included; 1 where nothing is known of the objects."""
        return 1 if self.world_from_object is None else self.world_from_object.shape[1]

    def cam_from_obj(self) -> Float[np.ndarray, "K T 4 4"]:
        """Each object's transform to the filming camera, in world units.

        Raises InputError where the layout doesn't know the objects' motion.
        """
        if self.world_from_object is None:
            raise InputError(f"{self.folder} has no object poses: evaluate images only, or use a layout that has them")
        return (self.cam_from_world_train[:, None] @ self.world_from_object).swapaxes(0, 1)

    def view_intrinsics(self, view: int) -> Float[np.ndarray, "3 3"]:
        """Intrinsics of one held-out view."""
        return self.intrinsics if self.intrinsics_test is None else self.intrinsics_test[view]

    def image_train(self, t: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB image of filmed frame t."""
        return read_rgb(self.images_train[t])

    def image_test(self, view: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB image of one held-out view."""
        return read_rgb(self.images_test[view])

    @classmethod
    def load(cls, folder: Path) -> "GroundTruth":
        """Read our own layout. Raises InputError where gt.npz is missing or lacks a key."""
        folder = Path(folder)
        if not (folder / "gt.npz").is_file():
            raise InputError(f"{folder} has no gt.npz: give the folder of a scene with ground truth (osn demo writes one)")
        stored = read_arrays(folder / "gt.npz")
        if missing := [key for key in KEYS if key not in stored]:
            raise InputError(f"{folder / 'gt.npz'} lacks {', '.join(missing)}: expected the keys {', '.join(KEYS)}")
        width, height = (int(side) for side in stored["size"])
        n_test = len(stored["cam_from_world_test"])
        return cls(
            folder=folder,
            intrinsics=stored["K"],
            width=width,
            height=height,
            fps=float(stored["fps"]),
            cam_from_world_train=stored["cam_from_world_train"],
            cam_from_world_test=stored["cam_from_world_test"],
            frame_test=np.arange(n_test),
            images_train=numbered_images(folder / "images_train", len(stored["cam_from_world_train"])),
            images_test=numbered_images(folder / "images_test", n_test),
            world_from_object=stored["world_from_object"],
            depth_train=stored["depth_train"].astype(np.float32),
            depth_test=stored["depth_test"].astype(np.float32),
            segm_train=stored["segm_train"],
            segm_test=stored["segm_test"],
            depth_alone=stored["depth_alone"].astype(np.float32),
        )

    def save(self, folder: Path) -> None:
        """Write gt.npz in our own layout (depths as float16). Everything that it holds must be known."""
        known = {name: getattr(self, name) for name in KEYS if name not in ("K", "size", "fps")}
        if absent := [name for name, values in known.items() if values is None]:
            raise InputError(f"the ground truth of {self.folder} lacks {', '.join(absent)}: gt.npz needs it")
        depths = {name: values.astype(np.float16) for name, values in known.items() if name.startswith("depth")}
        size = np.array([self.width, self.height])
        np.savez_compressed(folder / "gt.npz", **(known | depths), K=self.intrinsics, size=size, fps=self.fps)


def numbered_images(folder: Path, n: int) -> tuple[Path, ...]:
    """Paths of %04d.png from 0."""
    return tuple(folder / f"{t:04d}.png" for t in range(n))


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """RGB image. Raises InputError where the file is missing or not an image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except OSError as error:
        raise InputError(f"{path} is not a readable image ({error})") from None
