"""Where a reconstructed scene lies in the true world: which object is which, how long its unit is, where a true camera stands.

Each object of the scene has its own frame and unit; the similarity that takes its motion to the true motion (DESIGN section 8)
gives the unit's true length. The ratio of an object's to the background's is the scale at which it has its true size.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from pipelines import geometry
from pipelines.artifacts import BACKGROUND, Labels
from pipelines.errors import InputError, ReconstructionError
from pipelines.evaluation.poses import PoseError, pose_error
from pipelines.evaluation.segmentation import match_objects
from pipelines.evaluation.similarity import refined_similarity, true_sightings
from pipelines.ground_truth import GroundTruth


@dataclass(frozen=True)
class Alignment:
    """Scene columns that have a true counterpart, and the similarity of each. The background, column 0, always has."""

    true_of: dict[int, int]
    """True label of each predicted label that was found again."""
    columns: tuple[int, ...]
    true_labels: tuple[int, ...]
    """True label of each of `columns`."""
    poses: tuple[PoseError, ...]
    """Pose error of each of `columns`."""
    n_columns: int

    @property
    def true_log_scale(self) -> Float[np.ndarray, " K"]:
        """Log scale, in the scene's units, at which each object has its true size; NaN where that is not known."""
        log_scale = np.full(self.n_columns, np.nan)
        log_scale[list(self.columns)] = [np.log(pose.scale / self.poses[0].scale) for pose in self.poses]
        return log_scale

    def view_from_world(self, view_from_true: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
        """A camera of the true world as a camera of the scene's world, in the scene's unit."""
        similarity = self.poses[0].true_from_est
        unit = self.poses[0].scale
        moved = view_from_true @ similarity
        return geometry.rigid(moved[:3, :3] / unit, moved[:3, 3] / unit)


def align(
    object_ids: tuple[int, ...],
    cam_from_obj: Float[np.ndarray, "K T 4 4"],
    registered: Bool[np.ndarray, "K T"],
    labels: Labels,
    truth: GroundTruth,
) -> Alignment:
    """Match labels, then align every object's motion with the true one.

    An object whose motion cannot be aligned (too few frames, no translation) is treated like one without a counterpart.
    Raises InputError: the truth is of another video. ReconstructionError: the background cannot be aligned.
    """
    if truth.n_frames != cam_from_obj.shape[1]:
        raise InputError(
            f"the truth in {truth.folder} has {truth.n_frames} frames and the scene {cam_from_obj.shape[1]}: "
            "evaluate a scene of the same video, with all its frames"
        )
    true_of = _match(labels, truth)
    n_known = 1 if truth.world_from_object is None else truth.n_objects
    columns, true_labels, poses = [], [], []
    for column, object_id in enumerate(object_ids):
        true_label = true_of.get(object_id)
        if true_label is None or true_label >= n_known:
            continue
        error = aligned_motion(cam_from_obj[column], registered[column], truth, true_label)
        if np.isfinite(error.rotation_deg) and np.isfinite(error.scale) and error.scale > 0:
            columns.append(column)
            true_labels.append(true_label)
            poses.append(error)
    if not columns or columns[0] != 0:
        raise ReconstructionError(
            "the camera's motion cannot be aligned with the true one (static, or fewer than 3 registered frames): "
            "there is no common world to compare views in"
        )
    return Alignment(true_of, tuple(columns), tuple(true_labels), tuple(poses), len(object_ids))


def aligned_motion(
    cam_from_obj: Float[np.ndarray, "frames 4 4"], registered: Bool[np.ndarray, " frames"], truth: GroundTruth, label: int
) -> PoseError:
    """Pose error of one object. Its similarity is the one that agrees best in the images, where the truth shows the object."""
    true = truth.cam_from_world_train if truth.world_from_object is None else truth.cam_from_obj()[label]
    error = pose_error(cam_from_obj, true, registered, _median_depth(truth, label))
    sightings = true_sightings(truth, label, true, registered)
    if sightings is None or not (np.isfinite(error.scale) and error.scale > 0):
        return error
    similarity = refined_similarity(cam_from_obj, true, sightings, error.true_from_est)
    return replace(error, true_from_est=similarity, scale=float(np.cbrt(np.linalg.det(similarity[:3, :3]))))


def _match(labels: Labels, truth: GroundTruth) -> dict[int, int]:
    """True label of each predicted one. Without true label maps only the background is known."""
    if truth.segm_train is None:
        return {0: 0}
    return match_objects(labels.maps, geometry.at_pixel_centres(truth.segm_train, labels.maps.shape[2], labels.maps.shape[1]))


def _median_depth(truth: GroundTruth, label: int) -> float | None:
    """True distance of what the film shows of an object. Without it an object's own origin has to do, which lies on the
    object, but the background's may lie anywhere: NaN."""
    if truth.depth_train is not None and truth.segm_train is not None:
        depth = truth.depth_train[(truth.segm_train == label) & (truth.depth_train > 0)]
        if len(depth):
            return float(np.median(depth))
    return float("nan") if label == BACKGROUND else None
