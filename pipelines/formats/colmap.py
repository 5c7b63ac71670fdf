"""COLMAP's own files for one reconstructed object: `cameras.bin`, `images.bin`, `points3D.bin` and companions.

Axes, pixel centres and `cam_from_world` agree with ours, so nothing is converted. COLMAP's "world" is the object's own frame.
A data set is what 3D Gaussian splatting trains on: the model in `sparse/0`, its images in `images`, and in `masks` one PNG per
image, named as COLMAP expects it (the image's whole name and `.png`): white where this object is seen, black elsewhere.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipelines.artifacts import Labels, ObjectModel, Video

CAMERA_ID = 1


def write_model(
    folder: Path,
    model: ObjectModel,
    *,
    intrinsics: Float[np.ndarray, "3 3"],
    width: int,
    height: int,
    image_names: Sequence[str],
) -> None:
    """Write a reconstruction that pycolmap and COLMAP's GUI read. Frame t is image t + 1; unregistered frames are left out."""
    import pycolmap

    reconstruction = pycolmap.Reconstruction()
    parameters = [intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]]
    camera = pycolmap.Camera(camera_id=CAMERA_ID, model="PINHOLE", width=width, height=height, params=parameters)
    reconstruction.add_camera_with_trivial_rig(camera)
    index_in_image = np.zeros(len(model.obs_frame), int)
    for t in np.flatnonzero(model.registered).tolist():
        rows = np.flatnonzero(model.obs_frame == t)
        index_in_image[rows] = np.arange(len(rows))
        image = pycolmap.Image(
            name=image_names[t], keypoints=np.asarray(model.obs_xy_px[rows], float), camera_id=CAMERA_ID, image_id=t + 1
        )
        pose = pycolmap.Rigid3d(np.ascontiguousarray(model.cam_from_obj[t, :3]))
        reconstruction.add_image_with_trivial_frame(image, pose)
    order = np.argsort(model.obs_point, kind="stable")
    starts = np.searchsorted(model.obs_point[order], np.arange(len(model.points) + 1))
    for p in range(len(model.points)):
        rows = order[starts[p] : starts[p + 1]]
        track = pycolmap.Track([pycolmap.TrackElement(int(model.obs_frame[n]) + 1, int(index_in_image[n])) for n in rows])
        reconstruction.add_point3D(model.points[p], track, model.point_rgb[p])
    reconstruction.update_point_3d_errors()
    folder.mkdir(parents=True, exist_ok=True)
    reconstruction.write_binary(str(folder))


def write_dataset(
    folder: Path,
    model: ObjectModel,
    *,
    intrinsics: Float[np.ndarray, "3 3"],
    video: Video,
    labels: Labels,
    copied: dict[int, Path] | None = None,
) -> None:
    """The registered frames, the object's masks in them, and its model.

    copied: frames that lie in another object's data set already. They are linked, not copied, where the disk can do that;
        those that are copied here are added.
    """
    from PIL import Image

    copied = {} if copied is None else copied
    names = [video.path(t).name for t in range(video.n_frames)]
    write_model(
        folder / "sparse" / "0", model, intrinsics=intrinsics, width=video.width, height=video.height, image_names=names
    )
    for part in ("images", "masks"):
        (folder / part).mkdir(exist_ok=True)
    for t in np.flatnonzero(model.registered).tolist():
        image = folder / "images" / names[t]
        # Not linked to the workspace's frame: who edits an exported image must not change what results were made from.
        _link_or_copy(copied.get(t), video.path(t), image)
        copied.setdefault(t, image)
        seen = (labels.maps[t] == model.object_id).astype(np.uint8) * 255
        Image.fromarray(seen).save(folder / "masks" / f"{names[t]}.png")


def _link_or_copy(twin: Path | None, source: Path, target: Path) -> None:
    """A second name of `twin`; a copy of `source` where there is none, or on a disk without links."""
    if twin is not None:
        try:
            target.hardlink_to(twin)
            return
        except OSError:
            pass
    shutil.copyfile(source, target)


def read_poses(folder: Path, image_names: Sequence[str]) -> tuple[Float[np.ndarray, "T 4 4"], np.ndarray]:
    """cam_from_world of each named image (the identity where it is not registered), and which are registered."""
    import pycolmap

    reconstruction = pycolmap.Reconstruction(str(folder))
    return poses_of(reconstruction, image_names)


def poses_of(reconstruction, image_names: Sequence[str]) -> tuple[Float[np.ndarray, "T 4 4"], np.ndarray]:
    """The same from a reconstruction in memory."""
    index = {name: t for t, name in enumerate(image_names)}
    poses = np.tile(np.eye(4), (len(image_names), 1, 1))
    registered = np.zeros(len(image_names), bool)
    for image in reconstruction.images.values():
        if image.has_pose and image.name in index:
            t = index[image.name]
            poses[t, :3] = image.cam_from_world().matrix()
            registered[t] = True
    return poses, registered
