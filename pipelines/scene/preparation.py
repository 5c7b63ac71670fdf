"""An untrained scene from the inputs of the stage: boxes, field sizes, poses, and the density caches' first guess."""

import numpy as np
import torch
from jaxtyping import Float

from pipelines.artifacts import Labels, ObjectModel, Sfm, SfmStatus, Video
from pipelines.geometry import invert, ray_directions, scaled_intrinsics
from pipelines.scene import boxes
from pipelines.scene.fields import FieldKind, FieldSize
from pipelines.scene.marching import Marching
from pipelines.scene.model import SceneModel
from pipelines.scene.pixels import PixelStore, columns_of
from pipelines.scene.scene import Footage, Scene
from pipelines.scene.schedule import Schedule
from pipelines.train import TrainConfig


def untrained_scene(
    config: TrainConfig, video: Video, labels: Labels, sfm: Sfm, pixels: PixelStore, device: torch.device
) -> Scene:
    """A scene whose fields know nothing yet but where the objects are."""
    models = [sfm.objects[k] for k in sfm.scene_ids]
    seen = pixels.column.cpu().numpy()
    intrinsics = scaled_intrinsics(sfm.intrinsics, pixels.width / video.width, pixels.height / video.height)
    object_boxes = [boxes.background_box(models[0])]
    object_boxes += [boxes.mover_box(model, seen, k, intrinsics) for k, model in enumerate(models[1:], 1)]
    schedule = Schedule(config)
    resolutions = [schedule.resolution(0)] + [schedule.mover_resolution(0)] * (len(models) - 1)
    sizes = [field_size(config, 1.0)] + [field_size(config, config.mover_resolution_ratio)] * (len(models) - 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = SceneModel(
            object_boxes,
            sizes,
            resolutions,
            [config.cache_resolution] + [round(config.cache_resolution * config.mover_resolution_ratio)] * (len(models) - 1),
            torch.as_tensor(np.stack([m.cam_from_obj for m in models]), dtype=torch.float32),
            torch.tensor([boxes.nearest_depth(m) for m in models]),
            torch.as_tensor(np.stack([m.registered for m in models])),
        )
    for k in range(len(models)):
        g = object_boxes[k].grid_from_obj(guessed_points(models[k], pixels, k, intrinsics))
        model.fields[k].seed(g)
        model.cache(k).mark(g, 5.0 / object_boxes[k].size)
    footage = Footage(
        intrinsics=sfm.intrinsics,
        width=video.width,
        height=video.height,
        n_frames=video.n_frames,
        fps=video.fps,
        object_ids=tuple(m.object_id for m in models),
        names=tuple(labels.names[m.object_id] for m in models),
        registered=np.stack([m.registered for m in models]),
        log_scale_range=boxes.log_scale_range(models, config.near_share, config.far_share),
        columns=np.stack([columns_of(labels.maps[t], models, t) for t in range(video.n_frames)]),
        assumed_columns=tuple(k for k, m in enumerate(models) if m.status is SfmStatus.ASSUMED_DEPTH),
    )
    marching = Marching(config.n_bins, config.n_samples, config.sample_floor, config.min_colour_weight, 0.003)
    return Scene(footage, model.to(device), marching)


def field_size(config: TrainConfig, ratio: float) -> FieldSize:
    """Size of a field whose resolutions are `ratio` of the background's."""
    return FieldSize(
        kind=FieldKind(config.field),
        density_components=config.density_components,
        colour_components=config.colour_components,
        colour_levels=config.colour_levels,
        table_bits=round(config.table_bits + 2 * np.log2(ratio)),
        colour_resolution=round(config.colour_resolution * ratio),
        hidden=config.hidden,
    )


def guessed_points(
    model: ObjectModel, pixels: PixelStore, column: int, intrinsics: Float[np.ndarray, "3 3"]
) -> Float[torch.Tensor, "n 3"]:
    """Points of an object's surface (own frame) by the rough depth of at most `MAX_GUESSED` evenly chosen pixels."""
    guess = pixels.guess.cpu().numpy()
    t, y, x = np.nonzero((pixels.column.cpu().numpy() == column) & (guess > 0))
    step = max(1, len(t) // MAX_GUESSED)
    t, y, x = t[::step], y[::step], x[::step]
    points_cam = ray_directions(intrinsics, np.stack([x, y], -1) + 0.5) * guess[t, y, x, None].astype(float)
    obj_from_cam = invert(model.cam_from_obj)[t]
    points = np.einsum("nij,nj->ni", obj_from_cam[:, :3, :3], points_cam) + obj_from_cam[:, :3, 3]
    return torch.as_tensor(points, dtype=torch.float32)


MAX_GUESSED = 100_000
