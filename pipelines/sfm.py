"""Stage `sfm`: tracks to one reconstruction per object, each in its own frame and unit, with the camera's focal length.

Each object is reconstructed by itself: first guesses by factorising windows of many frames (both mirror twins), growth to
all frames by resection, triangulation and robust bundle adjustment, a choice among the attempts, a search for frames that
tracks did not reach, and a verdict on how far the result can be trusted.
Units: the background's and every object's unit puts its median depth over the clip at 1, so log scales near 0 mean
"about as far away as the background" for every object.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from pipelines.artifacts import BACKGROUND, Labels, ObjectModel, Sfm, SfmStatus, Tracks, Video
from pipelines.errors import UsageError
from pipelines.stage import StageConfig, StageContext

if TYPE_CHECKING:
    from pipelines.reconstruction.complete import Views

OBJECT_VERSION = 12


class SfmConfig(StageConfig):
    """Options of the stage `sfm`."""

    focal_px: float | None = Field(None, gt=0)
    """Focal length when it is known, in px of the footage as it was filmed (not of smaller working frames)."""
    fov_deg: float | None = Field(None, gt=1, lt=175)
    """Horizontal field of view, when it is known instead."""
    assumed_fov_deg: float = Field(60.0, gt=1, lt=175)
    """Field of view across the longer side of the picture that is assumed when nothing tells it."""
    max_focal_uncertainty: float = Field(0.05, gt=0)
    """Where the background tells the focal length less certainly than this share of it, the movers and the usual field of view
    are asked, too."""
    loss_px: float = Field(0.3, gt=0)
    """Width of the robust loss in bundle adjustment."""
    max_error_px: float = Field(2.0, gt=0)
    """Sightings that reproject worse than this are outliers."""
    min_frame_points: int = Field(8, ge=4)
    """Fewer points do not register a frame."""
    min_tracks: int = Field(12, ge=8)
    """An object with fewer tracks is not attempted."""
    min_registered_share: float = Field(0.3, gt=0, le=1)
    """An object must register in this share of the frames in which it has enough tracks."""
    max_windows: int = Field(4, ge=1)
    """Windows of frames from which reconstructions are started."""
    attempt_tracks: int = Field(1000, ge=8)
    """Tracks used in each attempt."""
    final_tracks: int = Field(2400, ge=8)
    """Tracks used in the final bundle adjustment; all others are triangulated with its poses."""
    max_rotation_error_deg: float = Field(1.0, gt=0)
    """Objects whose expected rotation error is larger are reported as doubtful, and from six times this on as unreliable."""
    min_rival_evidence: float = Field(10.0, ge=0)
    """Objects for which another motion has a log-likelihood less than this much below the best are reported as doubtful."""
    min_parallax_ratio: float = Field(3.0, gt=1)
    """The background has parallax when a camera that only turns costs this many times more."""
    correct_masks: bool | None = None
    """Whether the motions correct the masks: what is two objects is split, what moves as a larger one does becomes a part of
    it, and what else a mask holds is taken out of it. By default where masks were found, not given."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of the attempts at each object."""

    @model_validator(mode="after")
    def _one_focal(self) -> "SfmConfig":
        if self.focal_px is not None and self.fov_deg is not None:
            raise UsageError(
                f"focal length {self.focal_px} px and field of view {self.fov_deg} deg are both given: give only one of them"
            )
        return self


def reconstruct(config: SfmConfig, *, video: Video, labels: Labels, tracks: Tracks, context: StageContext) -> Sfm:
    """Reconstruct the background and every object. Failures are typed outcomes of the objects, never exceptions.

    Writes `sfm.json` and `object_XX/` with the model and COLMAP's files in `object_XX/sparse`. Returns the result.
    """
    from threadpoolctl import threadpool_limits

    # The matrices are small: several BLAS threads would spend their time waiting for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        return _reconstruct(config, video, labels, tracks, context)


def _reconstruct(config: SfmConfig, video: Video, labels: Labels, tracks: Tracks, context: StageContext) -> Sfm:
    from pipelines.formats.colmap import write_model
    from pipelines.reconstruction.calibrate import Focal, find_focal, focal_of_movers
    from pipelines.reconstruction.complete import Views
    from pipelines.reconstruction.correction import Corrector, Reconstructed
    from pipelines.reconstruction.judge import beside_background
    from pipelines.reconstruction.smooth import background_axes

    size = (video.width, video.height)
    principal_px = np.array(size) / 2
    background = tracks.of_object(BACKGROUND)
    with context.progress.task("sfm", labels.n_objects + 1) as advance:
        place = context.items.get(
            "focal",
            ["focal", OBJECT_VERSION, config.model_dump(), *size, video.n_frames, video.reduction, _track_key(background)],
            lambda folder: find_focal(config, background, video, principal_px).save(folder),
        )
        focal = Focal.load(place)
        if focal.source != "given" and focal.uncertainty > config.max_focal_uncertainty and labels.n_objects > 1:
            movers = [tracks.of_object(k) for k in range(1, labels.n_objects)]
            place = context.items.get(
                "focal of the movers",
                [
                    *("focal of the movers", OBJECT_VERSION, config.model_dump(), *size, video.n_frames, asdict(focal)),
                    [_track_key(mover) for mover in movers],
                ],
                lambda folder: focal_of_movers(config, movers, focal, max(size), video.n_frames, principal_px).save(folder),
            )
            focal = Focal.load(place)
        if focal.note:
            context.progress.note(focal.note)
        advance(1)
        axes: np.ndarray | None = None
        models: list[ObjectModel] = []

        def solved(k: int, masks: Labels, own: Tracks) -> ObjectModel:
            model = _object(config, k, focal.focal_px, own, Views(video, masks, k, principal_px), axes, context)
            return beside_background(model, models[BACKGROUND] if models else model)

        for k in range(labels.n_objects):
            models.append(solved(k, labels, tracks.of_object(k)))
            if k == BACKGROUND:
                axes = background_axes(models[k].cam_from_obj, models[k].registered)
            advance(1)
        found = Reconstructed(tuple(models), labels, tracks)
        if config.correct_masks is not False:
            corrector = Corrector(video, focal.focal_px, config.max_error_px, config.seed, solved, context.progress.note)
            found = corrector.corrected(found)
        models, names = list(found.models), found.labels.names
        for model in models:
            if model.reason:
                outcome = "kept, but " if model.status is SfmStatus.DOUBTFUL else ""
                context.progress.note(f"{names[model.object_id]}: {outcome}{model.reason}")
    intrinsics = np.array([[focal.focal_px, 0, principal_px[0]], [0, focal.focal_px, principal_px[1]], [0, 0, 1]])
    sfm = Sfm(intrinsics, video.width, video.height, tuple(models), focal.source, focal.uncertainty)
    sfm.save(context.out)
    if not np.array_equal(found.labels.maps, labels.joined(sfm.bodies).maps):
        found.labels.save(context.out)
    image_names = [video.path(t).name for t in range(video.n_frames)]
    for model in models:
        if model.usable:
            folder = context.out / f"object_{model.object_id:02d}" / "sparse"
            write_model(folder, model, intrinsics=intrinsics, width=video.width, height=video.height, image_names=image_names)
    return sfm


def _object(
    config: SfmConfig,
    k: int,
    focal_px: float,
    tracks: Tracks,
    views: "Views",
    axes: np.ndarray | None,
    context: StageContext,
) -> ObjectModel:
    """One object's model, from the cache when its own tracks and masks, focal length and camera's turns are unchanged."""
    from pipelines.reconstruction.model import coloured
    from pipelines.reconstruction.solve import solve_object

    def make(folder: Path) -> None:
        coloured(solve_object(config, k, focal_px, tracks, views, axes), views.video).save(folder)

    options = config.model_dump(exclude={"focal_px", "fov_deg", "assumed_fov_deg", "max_focal_uncertainty", "correct_masks"})
    masks = hashlib.sha256(np.packbits(views.labels.maps == k).tobytes()).hexdigest()
    size = [views.video.width, views.video.height, views.video.n_frames]
    turns = "" if axes is None else hashlib.sha256(axes.tobytes()).hexdigest()
    key = ["object", OBJECT_VERSION, k, options, focal_px, size, _track_key(tracks), masks, turns]
    return ObjectModel.load(context.items.get(f"object_{k:02d}", key, make))


def _track_key(tracks: Tracks) -> str:
    """Content of one object's tracks."""
    arrays = (tracks.track.astype(np.int64), tracks.frame.astype(np.int64), tracks.xy_px.astype(np.float32))
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
