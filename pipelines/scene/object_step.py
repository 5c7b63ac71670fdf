"""What one object does in a training step: sample its field on the step's rays, and carry gradients back into it.

torch's own threads split single operations, which are too small here for two cores to gain anything. Objects share no
parameters but meet in the composite only, so each is a task for a thread: forward to its samples, where the graph is cut, and,
after the loss has been taken back to these, backward into its field. Random numbers are each object's own, and so the result
does not depend on the number of threads.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipelines.scene import losses
from pipelines.scene.marching import Marched, Marching, cut, march
from pipelines.scene.model import SceneModel
from pipelines.scene.pixels import Batch, UnseenRays
from pipelines.scene.rays import Rays
from pipelines.workers import n_cores

CACHE_EVERY_STEPS = 16
CACHE_DECAY = 0.8
CACHE_SHARE = 1 / 8
SMOOTH_EVERY_STEPS = 8
"""Total variation reads whole tables, so it is taken into account in every eighth step only, eight times as strongly."""
BACKGROUND = 0

Result = TypeVar("Result")


class ObjectThreads:
    """Runs a task for every object; one after the other on a GPU, which is kept busy by one."""

    def __init__(self, n_objects: int, device: torch.device) -> None:
        self.n_objects = n_objects
        self._pool = ThreadPoolExecutor(min(n_objects, n_cores())) if device.type == "cpu" else None

    def run(self, task: Callable[[int], Result]) -> list[Result]:
        """Results in the order of the objects."""
        return list((self._pool.map if self._pool else map)(task, range(self.n_objects)))

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown()


@dataclass(frozen=True)
class ObjectSamples:
    """One object's part of a step, between its forward and its backward half."""

    marched: Marched
    cut: Marched
    """What the loss is computed from."""
    terms: dict[str, Tensor]
    """Losses of this object by itself: "unseen", background that no frame shows; "smoothness", total variation."""

    def backward(self, weights: Mapping[str, float]) -> None:
        """Take the gradients that have gathered at the cut, and those of the object's own terms, to the parameters."""
        for name, term in self.terms.items():
            (weights[name] * term).backward()
        outputs = [(self.marched.tau, self.cut.tau.grad), (self.marched.rgb, self.cut.rgb.grad)]
        counted = [(output, grad) for output, grad in outputs if output.requires_grad and grad is not None]
        if counted:
            torch.autograd.backward([output for output, _ in counted], [grad for _, grad in counted])


def object_samples(
    model: SceneModel,
    column: int,
    batch: Batch,
    directions_cam: Float[Tensor, "n 3"],
    *,
    wanted: Bool[Tensor, " n"],
    settings: Marching,
    unseen: UnseenRays,
    step: int,
    generator: torch.Generator,
) -> ObjectSamples:
    """The forward half. wanted: rays on which the object may be."""
    field, cache = model.fields[column], model.cache(column)
    if step % CACHE_EVERY_STEPS == 0:
        with torch.no_grad():
            cache.refresh(field.box, field.density, share=CACHE_SHARE, decay=CACHE_DECAY, generator=generator)
    own = batch.column == column
    marched = march(
        field,
        cache,
        model.filmed_rays(column, batch.frame, directions_cam),
        wanted=wanted,
        kept=own,
        nearest=model.nearest[column],
        settings=settings,
        expected=own * batch.guess,
        generator=generator,
    )
    terms = {}
    if column == BACKGROUND:
        terms["unseen"] = _unseen_loss(model, unseen, settings, generator)
    if step % SMOOTH_EVERY_STEPS == 0:
        terms["smoothness"] = field.smoothness()
    return ObjectSamples(marched, cut(marched), terms)


def _unseen_loss(model: SceneModel, unseen: UnseenRays, settings: Marching, generator: torch.Generator) -> Float[Tensor, ""]:
    """Background that no frame shows against its guessed depth."""
    everywhere = torch.ones(len(unseen), dtype=torch.bool, device=unseen.depth.device)
    marched = march(
        model.fields[BACKGROUND],
        model.cache(BACKGROUND),
        Rays(unseen.origins, unseen.directions),
        wanted=everywhere,
        kept=everywhere,
        nearest=model.nearest[BACKGROUND],
        settings=settings,
        with_colour=False,
        expected=unseen.depth,
        generator=generator,
    )
    target = unseen.depth[marched.rows]
    return losses.depth_loss(marched.weights(), marched.depth, target, torch.ones_like(target))
