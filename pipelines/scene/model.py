"""The trainable whole: K fields with their density caches, and the poses."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pipelines.scene.cameras import Cameras
from pipelines.scene.compositing import RaySamples
from pipelines.scene.contraction import Box
from pipelines.scene.fields import FieldSize, ObjectField, make_field
from pipelines.scene.marching import Marching, gathered, march
from pipelines.scene.occupancy import DensityCache
from pipelines.scene.rays import Rays, object_rays


class SceneModel(nn.Module):
    """All that a checkpoint holds of a scene's geometry and appearance."""

    def __init__(
        self,
        boxes: Sequence[Box],
        sizes: Sequence[FieldSize],
        resolutions: Sequence[int],
        cache_resolutions: Sequence[int],
        cam_from_obj: Float[Tensor, "objects frames 4 4"],
        nearest: Float[Tensor, " objects"],
        registered: Bool[Tensor, "objects frames"] | None = None,
    ) -> None:
        super().__init__()
        made = [make_field(box, size, n) for box, size, n in zip(boxes, sizes, resolutions, strict=True)]
        self.field_list = nn.ModuleList(made)
        # At the start every cell is thin: rays are sampled evenly, and all of them meet the object.
        caches = [DensityCache(n, 0.1 / box.size) for n, box in zip(cache_resolutions, boxes, strict=True)]
        self.caches = nn.ModuleList(caches)
        self.cameras = Cameras(cam_from_obj, torch.stack([box.centre for box in boxes]), registered)
        self.register_buffer("extents", torch.tensor([box.size for box in boxes]), persistent=False)
        self.nearest = [float(depth) for depth in nearest]

    extents: Tensor
    """Mean half extent of each object's box, in its own unit."""

    @property
    def fields(self) -> list[ObjectField]:
        return [field for field in self.field_list if isinstance(field, ObjectField)]

    def cache(self, column: int) -> DensityCache:
        cache = self.caches[column]
        assert isinstance(cache, DensityCache)
        return cache

    def filmed_rays(self, column: int, frames: Int[Tensor, " n"], directions_cam: Float[Tensor, "n 3"]) -> Rays:
        """Rays of the filming camera in the object's own frame (differentiable in the poses)."""
        return object_rays(self.cameras.cam_from_obj(column, frames), directions_cam)

    def samples(
        self,
        rays: Sequence[Rays],
        *,
        wanted: Bool[Tensor, "n objects"],
        kept: Bool[Tensor, "n objects"],
        settings: Marching,
        nearest: Sequence[float] | None = None,
        with_colour: bool = True,
    ) -> RaySamples:
        """Samples of all objects on one batch of rays, each given in every object's own frame, for rendering.

        wanted: objects that can be on the ray; kept: of those, the ones to sample even where their cache is empty.
        nearest: z-depth per object (own unit) before which nothing is sampled; by default that of the filming camera.
        """
        limits = self.nearest if nearest is None else nearest
        marched = [
            march(
                field,
                self.cache(k),
                rays[k],
                wanted=wanted[:, k],
                kept=kept[:, k],
                nearest=limits[k],
                settings=settings,
                with_colour=with_colour,
            )
            for k, field in enumerate(self.fields)
        ]
        return gathered(marched, len(wanted))

    def upsample(self, resolutions: Sequence[int]) -> None:
        for field, resolution in zip(self.fields, resolutions, strict=True):
            field.upsample(resolution)

    @torch.no_grad()
    def rebuild_caches(self, generator: torch.Generator) -> None:
        for k, field in enumerate(self.fields):
            self.cache(k).rebuild(field.box, field.density, generator)
