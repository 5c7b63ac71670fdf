"""Scenes whose masks and motion are known, as the stages after `segment` and `sfm` find them in a workspace.

So a benchmark of training measures training, and nothing that went wrong before it.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from pipelines.artifacts import Labels, ObjectModel, Sfm, SfmStatus, Video
from pipelines.geometry import invert, pixel_centres, project, ray_directions, rigid, transform
from pipelines.ground_truth import GroundTruth, numbered_images
from pipelines.synthetic import SceneSpec, make_world
from pipelines.synthetic.bodies import nearest_label, render_rgb
from pipelines.synthetic.scene import write_rgb, write_video

POINTS_PER_FRAME = 40
"""Reconstructed points that begin in each frame, per object."""
TRACK_FRAMES = 15
"""A point is observed at most so many frames before and after the one where it begins."""
DEPTH_TOLERANCE = 0.01
"""A point is seen where its depth is that of the frame's surface, up to this share."""


def film(spec: SceneSpec, folder: Path) -> None:
    """What `true_workspace` needs of a synthetic scene, and video.mp4: no held-out views, so half the time of `make_scene`."""
    world = make_world(spec)
    (folder / "images_train").mkdir(parents=True)
    images, depth, segm = [], [], []
    for t, cam_from_world in enumerate(world.cam_from_world_train):
        actors, camera = world.actors(t), world.camera(cam_from_world)
        alone = actors.depth_alone(camera)
        images.append(np.round(255 * render_rgb([(actors, camera)])).astype(np.uint8))
        depth.append(np.where(np.isfinite(alone.min(0)), alone.min(0), 0).astype(np.float32))
        segm.append(nearest_label(alone))
        write_rgb(folder / "images_train" / f"{t:04d}.png", images[-1])
    write_video(folder / "video.mp4", np.stack(images), spec.fps)
    truth = GroundTruth(
        folder=folder,
        intrinsics=world.intrinsics,
        width=spec.width,
        height=spec.height,
        fps=spec.fps,
        cam_from_world_train=world.cam_from_world_train,
        cam_from_world_test=np.zeros((0, 4, 4)),
        frame_test=np.zeros(0, int),
        images_train=numbered_images(folder / "images_train", spec.n_frames),
        world_from_object=world.world_from_object,
        depth_train=np.stack(depth),
        segm_train=np.stack(segm),
    )
    true_workspace(truth, world.names, folder)


def true_workspace(truth: GroundTruth, names: tuple[str, ...], workspace: Path, seed: int = 0) -> None:
    """Write `frames`, `segment` and `sfm` as perfect stages would, each object in a unit of its own."""
    assert truth.segm_train is not None
    (workspace / "frames").mkdir(parents=True, exist_ok=True)
    video = Video(workspace / "frames", truth.width, truth.height, truth.n_frames, truth.fps, str(truth.folder))
    for t in range(truth.n_frames):
        write_rgb(video.path(t), truth.image_train(t))
    video.save()
    (workspace / "segment").mkdir(exist_ok=True)
    Labels(truth.segm_train, names).save(workspace / "segment")
    (workspace / "sfm").mkdir(exist_ok=True)
    true_sfm(truth, seed).save(workspace / "sfm")


def true_sfm(truth: GroundTruth, seed: int = 0) -> Sfm:
    """The exact motion and exact points, seen in the frames around the one where each begins."""
    generator = np.random.default_rng(seed)
    units = np.exp(generator.uniform(-0.7, 0.7, truth.n_objects))
    models = [_model(truth, k, units[k], generator) for k in range(truth.n_objects)]
    return Sfm(truth.intrinsics, truth.width, truth.height, tuple(models))


def _model(truth: GroundTruth, k: int, unit: float, generator: np.random.Generator) -> ObjectModel:
    """unit: true length of the object's own unit."""
    cam_from_obj = truth.cam_from_obj()[k]
    points, begins = _points(truth, k, cam_from_obj, generator)
    rgb = np.zeros((len(points), 3), np.uint8)
    obs_point, obs_frame, obs_xy_px = [], [], []
    for t in range(truth.n_frames):
        near = np.flatnonzero(np.abs(begins - t) <= TRACK_FRAMES)
        in_camera = transform(cam_from_obj[t], points[near])
        xy_px = project(truth.intrinsics, in_camera)
        inside = (in_camera[:, 2] > 0) & (xy_px >= 0).all(1) & (xy_px < [truth.width, truth.height]).all(1)
        near, in_camera, xy_px = near[inside], in_camera[inside], xy_px[inside]
        column, row = xy_px.astype(int).T
        assert truth.segm_train is not None and truth.depth_train is not None
        surface = truth.depth_train[t][row, column]
        seen = (truth.segm_train[t][row, column] == k) & (np.abs(in_camera[:, 2] / surface - 1) < DEPTH_TOLERANCE)
        obs_point.append(near[seen])
        obs_frame.append(np.full(seen.sum(), t))
        obs_xy_px.append(xy_px[seen])
        rgb[near[seen]] = truth.image_train(t)[row[seen], column[seen]]
    return ObjectModel(
        object_id=k,
        status=SfmStatus.OK,
        reason="",
        registered=np.ones(truth.n_frames, bool),
        cam_from_obj=rigid(cam_from_obj[:, :3, :3], cam_from_obj[:, :3, 3] / unit),
        points=points / unit,
        point_error_px=np.full(len(points), 0.3),
        point_rgb=rgb,
        obs_point=np.concatenate(obs_point),
        obs_frame=np.concatenate(obs_frame),
        obs_xy_px=np.concatenate(obs_xy_px),
    )


def _points(
    truth: GroundTruth, k: int, cam_from_obj: Float[np.ndarray, "T 4 4"], generator: np.random.Generator
) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, " n"]]:
    """Points of the object's surface in its true frame and unit, and the frame each was taken from."""
    assert truth.segm_train is not None and truth.depth_train is not None
    centres = pixel_centres(truth.width, truth.height)
    points, begins = [], []
    for t in range(truth.n_frames):
        row, column = np.nonzero((truth.segm_train[t] == k) & (truth.depth_train[t] > 0))
        chosen = generator.permutation(len(row))[:POINTS_PER_FRAME]
        row, column = row[chosen], column[chosen]
        rays = ray_directions(truth.intrinsics, centres[row, column])
        in_camera = rays * truth.depth_train[t][row, column, None].astype(float)
        points.append(transform(invert(cam_from_obj[t]), in_camera))
        begins.append(np.full(len(row), t))
    return np.concatenate(points), np.concatenate(begins)
