"""A synthetic scene as training would leave it if it were perfect: exact surfaces and motion, each in an arbitrary unit.

It answers like `pipelines.scene.scene.Scene`, so that everything after training can be tested without training, and so that
the true images of *other* scenes that explain the same video can be had (the multi-truth protocol).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from pipelines import geometry
from pipelines.artifacts import Labels, ObjectModel, Sfm, SfmStatus
from pipelines.scene.evidence import AloneMaps
from pipelines.scene.zone import Zone
from pipelines.scenery import View
from pipelines.synthetic.bodies import Actors, Camera, nearest_label, render_rgb
from pipelines.synthetic.scene import World


@dataclass(frozen=True)
class OracleScene:
    """unit: true length of each object's own unit. The true scale of object k is then unit[k] / unit[0]."""

    truth: World
    unit: Float[np.ndarray, " K"]
    zone: Zone | None = None
    network: None = None
    evidence: None = None

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        return self.truth.intrinsics

    @property
    def width(self) -> int:
        return self.truth.spec.width

    @property
    def height(self) -> int:
        return self.truth.spec.height

    @property
    def n_frames(self) -> int:
        return self.truth.spec.n_frames

    @property
    def fps(self) -> float:
        return self.truth.spec.fps

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(range(len(self.truth.names)))

    @property
    def names(self) -> tuple[str, ...]:
        return self.truth.names

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def fields(self) -> tuple[()]:
        """There are none: surfaces are meshes."""
        return ()

    @property
    def registered(self) -> Bool[np.ndarray, "K T"]:
        return np.ones((len(self.unit), self.n_frames), bool)

    @property
    def true_log_scale(self) -> Float[np.ndarray, " K"]:
        """Log scales at which everything has its true size."""
        return np.log(self.unit / self.unit[0])

    @property
    def largest_scale(self) -> Float[np.ndarray, " K"]:
        return np.exp(self.true_log_scale)

    @property
    def log_scale_range(self) -> Float[np.ndarray, "K 2"]:
        """Wide limits around the true scales."""
        limits = self.true_log_scale[:, None] + np.array([-1.5, 1.5])
        limits[0] = 0
        return limits

    @cached_property
    def cam_from_obj(self) -> Float[np.ndarray, "K T 4 4"]:
        """Each in its own unit."""
        cam_from_obj = (self.truth.cam_from_world_train[:, None] @ self.truth.world_from_object).swapaxes(0, 1).copy()
        cam_from_obj[..., :3, 3] /= self.unit[:, None, None]
        return cam_from_obj

    @property
    def boxes(self) -> Float[np.ndarray, "K 2 3"]:
        return np.stack([mesh.bounds / unit for mesh, unit in zip(self.truth.meshes, self.unit, strict=True)])

    def render(
        self,
        *,
        t: int,
        scale: Float[np.ndarray, " K"],
        view_from_world: Float[np.ndarray, "4 4"] | None = None,
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> View:
        """See `pipelines.scene.scene.Scene.render`."""
        width, height = width or self.width, height or self.height
        if intrinsics is None:
            intrinsics = geometry.scaled_intrinsics(self.intrinsics, width / self.width, height / self.height)
        if view_from_world is None:
            view_from_world = self.cam_from_obj[0, t]
        in_true_units = np.array(view_from_world)
        in_true_units[:3, 3] *= self.unit[0]
        actors = self.truth.actors(t, scale * self.unit[0] / self.unit)
        return _rendered(actors, Camera(intrinsics, width, height, in_true_units), float(1 / self.unit[0]))

    def alone_maps(self, *, width: int, frames: Sequence[int], rays_of: Bool[np.ndarray, "F K h w"] | None = None) -> AloneMaps:
        """See `pipelines.scene.scene.Scene.alone_maps`."""
        height = max(1, round(self.height * width / self.width))
        intrinsics = geometry.scaled_intrinsics(self.intrinsics, width / self.width, height / self.height)
        chosen = np.asarray(frames, int)
        cameras = [Camera(intrinsics, width, height, self.truth.cam_from_world_train[t]) for t in chosen]
        alone = np.stack([self.truth.actors(t).depth_alone(c) for t, c in zip(chosen.tolist(), cameras, strict=True)])
        column = alone.argmin(1).astype(np.uint8)
        if rays_of is not None:
            alone = np.where(rays_of, alone, np.inf)
        return AloneMaps(
            depth=(alone / self.unit[:, None, None]).astype(np.float32),
            opacity=np.isfinite(alone).astype(np.float32),
            column=column,
            frames=chosen,
            intrinsics=intrinsics,
            cam_from_obj=self.cam_from_obj[:, chosen],
            registered=self.registered[:, chosen],
        )

    def sfm(self) -> Sfm:
        """The exact reconstruction, without points."""
        models = [self._model(k) for k in range(len(self.unit))]
        return Sfm(self.intrinsics, self.width, self.height, tuple(models))

    def _model(self, k: int) -> ObjectModel:
        empty = ObjectModel.failed(k, SfmStatus.NO_TRACKS, "", self.n_frames)
        return ObjectModel(
            **{name: getattr(empty, name) for name in ObjectModel.ARRAYS if name not in ("registered", "cam_from_obj")},
            object_id=k,
            status=SfmStatus.OK,
            reason="",
            registered=self.registered[k],
            cam_from_obj=self.cam_from_obj[k],
        )

    def labels(self) -> Labels:
        cameras = [self.truth.camera(cam_from_world) for cam_from_world in self.truth.cam_from_world_train]
        maps = [nearest_label(self.truth.actors(t).depth_alone(camera)) for t, camera in enumerate(cameras)]
        return Labels(np.stack(maps), self.truth.names)


def _rendered(actors: Actors, camera: Camera, depth_unit: float) -> View:
    alone = actors.depth_alone(camera)
    nearest = alone.min(0)
    hit = np.isfinite(nearest)
    return View(
        rgb=render_rgb([(actors, camera)]),
        depth=np.where(hit, nearest * depth_unit, 0).astype(np.float32),
        label=np.where(hit, nearest_label(alone), 255).astype(np.uint8),
        opacity=hit.astype(np.float32),
    )
