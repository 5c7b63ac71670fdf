"""A chosen reconstruction as the artifact that later stages read: own unit, colours, errors."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipelines.artifacts import ObjectModel, SfmStatus, Video
from pipelines.geometry import transform
from pipelines.reconstruction.bundle import Structure, reproject
from pipelines.reconstruction.sightings import Sightings


def median_depth(structure: Structure, registered: Bool[np.ndarray, " T"], points: Float[np.ndarray, "M 3"]) -> float:
    """Median z-depth of all points over all registered frames, in the structure's unit."""
    poses = structure.cam_from_obj[registered]
    cam = transform(poses, np.broadcast_to(points, (len(poses), *points.shape)))
    return float(np.median(cam[..., 2]))


def in_own_unit(structure: Structure, registered: Bool[np.ndarray, " T"], placed: Bool[np.ndarray, " P"]) -> Structure:
    """The structure with the object's centroid as origin, in the unit that puts its median depth at 1.

    So the same log scale means the same depth in front of the camera for every object and the background.
    """
    centre = np.median(structure.points[placed], axis=0)
    poses = structure.cam_from_obj.copy()
    poses[:, :3, 3] += poses[:, :3, :3] @ centre
    unit = median_depth(structure, registered, structure.points[placed])
    poses[:, :3, 3] /= unit
    poses[~registered] = np.eye(4)
    return replace(structure, cam_from_obj=poses, points=(structure.points - centre) / unit)


def to_model(
    object_id: int,
    status: SfmStatus,
    reason: str,
    sightings: Sightings,
    structure: Structure,
    registered: Bool[np.ndarray, " T"],
    placed: Bool[np.ndarray, " P"],
    principal_px: Float[np.ndarray, "2"],
    quality: dict[str, float],
    max_error_px: float,
) -> ObjectModel:
    """List points and the sightings that agree with them. Colours are filled in by `coloured`."""
    observed = sightings.observations(registered, placed)
    residual, depth = reproject(structure, observed)
    error = np.linalg.norm(residual, axis=-1)
    kept = (error < max_error_px) & (depth > 0)
    observed, error = observed.where(kept), error[kept]
    points, point = np.unique(observed.point, return_inverse=True)
    count = np.bincount(point, minlength=len(points))
    return ObjectModel(
        object_id=object_id,
        status=status,
        reason=reason,
        registered=registered,
        cam_from_obj=np.where(registered[:, None, None], structure.cam_from_obj, np.eye(4)),
        points=structure.points[points],
        point_error_px=np.bincount(point, weights=error, minlength=len(points)) / np.maximum(count, 1),
        point_rgb=np.full((len(points), 3), 128, np.uint8),
        obs_point=point,
        obs_frame=observed.frame,
        obs_xy_px=observed.xy_px + principal_px,
        quality=quality,
    )


def coloured(model: ObjectModel, video: Video) -> ObjectModel:
    """Colour of each point: the mean over the pixels that show it."""
    total = np.zeros((len(model.points), 3))
    for t in np.unique(model.obs_frame):
        rows = model.obs_frame == t
        column, row = np.floor(model.obs_xy_px[rows]).astype(int).T
        image = video.frame(int(t))
        colour = image[np.clip(row, 0, video.height - 1), np.clip(column, 0, video.width - 1)]
        np.add.at(total, model.obs_point[rows], colour)
    count = np.bincount(model.obs_point, minlength=len(model.points))
    rgb: UInt8[np.ndarray, "M 3"] = np.round(total / np.maximum(count, 1)[:, None]).astype(np.uint8)
    return replace(model, point_rgb=rgb)
