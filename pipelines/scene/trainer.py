"""The training loop: runs the steps of the plan, learns the scales, keeps checkpoints."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from pipelines.artifacts import Labels, Sfm, Video
from pipelines.geometry import scaled_intrinsics
from pipelines.interrupts import interrupts_deferred
from pipelines.scene import checkpoint, objectives, previews, scales
from pipelines.scene.marching import gathered
from pipelines.scene.monitor import Monitor
from pipelines.scene.object_step import SMOOTH_EVERY_STEPS, ObjectSamples, ObjectThreads, object_samples
from pipelines.scene.optimisers import BETAS, EPS, FieldOptimiser
from pipelines.scene.pixels import PixelStore
from pipelines.scene.preparation import untrained_scene
from pipelines.scene.rays import camera_directions
from pipelines.scene.scene import Scene
from pipelines.scene.schedule import Phase, Schedule
from pipelines.stage import StageContext
from pipelines.train import TrainConfig
from pipelines.workers import one_torch_thread

MOST_STREAMS = 256
"""Of random numbers in one step: one for the draw of rays, and one per object."""


def run(config: TrainConfig, video: Video, labels: Labels, sfm: Sfm, context: StageContext) -> Scene:
    """Train from the beginning or from the checkpoint in `context.out`."""
    trainer = Trainer.prepare(config, video, labels, sfm, context)
    trainer.resume()
    try:
        trainer.train()
    finally:
        trainer.threads.close()
    checkpoint.remove(context.out)
    return trainer.scene


class Trainer:
    """State of one run."""

    def __init__(self, config: TrainConfig, scene: Scene, pixels: PixelStore, context: StageContext) -> None:
        self.config = config
        self.scene = scene
        self.pixels = pixels
        self.context = context
        self.schedule = Schedule(config)
        self.step = 0
        self.seconds: dict[str, float] = {}
        device = scene.device
        self.generator = torch.Generator(device)
        self.object_generators = [torch.Generator(device) for _ in range(scene.n_objects)]
        self.threads = ObjectThreads(scene.n_objects, device)
        self.registered = torch.from_numpy(scene.registered).to(device)
        intrinsics = scaled_intrinsics(scene.intrinsics, pixels.width / scene.width, pixels.height / scene.height)
        self.intrinsics = torch.as_tensor(intrinsics, dtype=torch.float32, device=device)
        self._combinations: Tensor | None = None
        """Scales to train on until the next round, (n, K)."""
        self._new_optimisers()
        self.monitor = Monitor(context, tensorboard=config.tensorboard)

    @classmethod
    def prepare(cls, config: TrainConfig, video: Video, labels: Labels, sfm: Sfm, context: StageContext) -> "Trainer":
        device = torch.device(context.device)
        pixels = PixelStore.prepare(
            video, labels, sfm, max_side_px=config.max_side_px, error_scale_px=config.depth_error_px, device=device
        )
        return cls(config, untrained_scene(config, video, labels, sfm, pixels, device), pixels, context)

    def train(self) -> None:
        with self.context.progress.task("train", self.config.steps) as advance, interrupts_deferred() as interrupted:
            advance(self.step)
            while self.step < self.config.steps and not interrupted():
                self._before_step()
                with self._timed("fields"):
                    terms = self._field_step()
                self._after_step(terms)
                advance(1)
            if interrupted():
                self.save_checkpoint()
                raise KeyboardInterrupt
        with self._timed("scales"):
            # The last round saw older fields: read the order of objects once more from the finished ones.
            self._learn_scales(self.config.rounds)
        self.monitor.write({"step": self.step, "seconds": self.seconds})

    def _before_step(self) -> None:
        """Everything that happens between steps: a checkpoint, finer fields, a round of the scales, a preview."""
        step, config = self.step, self.config
        # First of all: a resumed run then repeats whatever else happens before this step, exactly once.
        if step and step % config.checkpoint_every_steps == 0:
            self.save_checkpoint()
        wanted = self.schedule.resolution(step)
        if wanted != self.scene.fields[0].resolution:
            mover = self.schedule.mover_resolution(step)
            self.scene.model.upsample([wanted] + [mover] * (self.scene.n_objects - 1))
            self._new_optimisers()
        if step in self.schedule.round_steps:
            with self._timed("scales"):
                self._learn_scales(self.schedule.round_steps.index(step))
        if config.preview_every_steps and step and step % config.preview_every_steps == 0:
            with self._timed("previews"):
                previews.write(self.scene, self.context.out / "previews", step)

    @one_torch_thread()
    def _field_step(self) -> dict[str, Tensor]:
        """One step of the fields; on a CPU in one thread per object."""
        config, model, step = self.config, self.scene.model, self.step
        for k, generator in enumerate([self.generator, *self.object_generators]):
            generator.manual_seed((config.seed * 1_000_003 + step) * MOST_STREAMS + k)
        model.cameras.twist.requires_grad_(self.schedule.refines_poses(step))
        batch = self.pixels.batch(*self._draws(), self.generator)
        unseen = self.pixels.draw_unseen(round(config.rays_per_step * config.unseen_share), self.generator)
        directions = camera_directions(self.intrinsics, batch.xy_px)
        scale = self._scale()

        def forward(k: int) -> ObjectSamples:
            wanted = self.registered[k, batch.frame]
            if scale is None:
                wanted = wanted & ((batch.column == k) | (batch.column == 0))
            generator = self.object_generators[k]
            settings = self.scene.marching
            return object_samples(
                model, k, batch, directions, wanted=wanted, settings=settings, unseen=unseen, step=step, generator=generator
            )

        parts = self.threads.run(forward)
        samples = gathered([part.cut for part in parts], len(batch.column))
        if scale is None:
            result = objectives.alone_losses(config, model, samples, batch)
        else:
            result = objectives.composite_losses(config, model, samples, batch, scale)
        result.total.backward()
        rate = self.schedule.rate(step)
        own_weights = {"unseen": config.guess_weight, "smoothness": config.smoothness_weight * SMOOTH_EVERY_STEPS}

        def backward(k: int) -> None:
            parts[k].backward(own_weights)
            self.optimisers[k].step(rate)

        self.threads.run(backward)
        if model.cameras.twist.requires_grad:
            self.pose_optimiser.param_groups[0]["lr"] = rate * config.pose_rate
            self.pose_optimiser.step()
            self.pose_optimiser.zero_grad()
        total, own = result.total.detach(), dict[str, Tensor]()
        for name, term in (item for part in parts for item in part.terms.items()):
            own[name] = own.get(name, 0.0) + term.detach()
            total = total + own_weights[name] * term.detach()
        return result.terms | own | {"total": total}

    def _scale(self) -> Tensor | None:
        """One valid combination for this step; None while objects are trained alone."""
        if self.schedule.phase(self.step) is Phase.BOOTSTRAP or self.scene.zone is None or self.scene.zone.is_empty:
            return None
        if self._combinations is None:
            n_rounds = sum(step <= self.step for step in self.schedule.round_steps)
            drawn = scales.drawn(self.scene, np.random.default_rng([self.config.seed, n_rounds]))
            self._combinations = torch.as_tensor(np.exp(drawn), dtype=torch.float32, device=self.scene.device)
        chosen = int(np.random.default_rng([self.config.seed, self.step]).integers(len(self._combinations)))
        return self._combinations[chosen : chosen + 1]

    def _draws(self) -> tuple[list[int], list[int]]:
        """Rays per object: random pixels, and reconstructed points."""
        config, movers = self.config, self.scene.n_objects - 1
        n_sparse = round(config.rays_per_step * config.sparse_share)
        return _shares(config.rays_per_step - n_sparse, movers, config.mover_share), _shares(
            n_sparse, movers, config.mover_share
        )

    def _new_optimisers(self) -> None:
        """One for each object, and one for the poses. Made anew when the fields become finer, as in TensoRF."""
        self.optimisers = [FieldOptimiser(self.config, field) for field in self.scene.fields]
        self.pose_optimiser = torch.optim.Adam([self.scene.model.cameras.twist], betas=BETAS, eps=EPS)

    def _learn_scales(self, round_index: int) -> None:
        self.generator.manual_seed(self.config.seed * 1_000_003 + self.step)
        self.scene.model.rebuild_caches(self.generator)
        outcome = scales.learn(self.scene, self.config, round_index)
        self.scene.zone, self.scene.network, self.scene.evidence = outcome.validity.zone, outcome.network, outcome.evidence
        self._combinations = None
        self.monitor.write({"step": self.step, "round": round_index, **outcome.described})
        for note in outcome.notes:
            self.context.progress.note(note)

    def _after_step(self, terms: dict[str, Tensor]) -> None:
        self.step += 1
        if self.step % self.config.log_every_steps == 0 or self.step == self.config.steps:
            values = {name: float(value.detach()) for name, value in terms.items()}
            self.monitor.watch(self.step, self.schedule.phase(self.step - 1), values)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start

    def save_checkpoint(self) -> None:
        zone, network = self.scene.zone, self.scene.network
        state = checkpoint.Checkpoint(
            step=self.step,
            model=self.scene.model.state_dict(),
            resolutions=[field.resolution for field in self.scene.fields],
            optimisers=[*(optimiser.state_dict() for optimiser in self.optimisers), self.pose_optimiser.state_dict()],
            zone=None if zone is None else zone.arrays(),
            network=None if network is None else network.state_dict(),
            seconds=self.seconds,
        )
        checkpoint.write(self.context.out, self._key(), state)

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if there is one of this configuration."""
        found = checkpoint.read(self.context.out, self._key(), self.scene.device)
        if found is None:
            return
        self.scene.model.upsample(found.resolutions)
        self.scene.model.load_state_dict(found.model)
        self._new_optimisers()
        *of_fields, of_poses = found.optimisers
        for optimiser, state in zip(self.optimisers, of_fields, strict=True):
            optimiser.load_state_dict(state)
        self.pose_optimiser.load_state_dict(of_poses)
        self.scene.zone, self.scene.network = scales.restored(found.zone, found.network, self.scene.device)
        self._combinations = None
        self.step, self.seconds = found.step, found.seconds
        self.context.progress.note(f"training continues at step {self.step} of {self.config.steps}")

    def _key(self) -> dict[str, object]:
        return self.config.model_dump(mode="json")


def _shares(total: int, n_movers: int, mover_share: float) -> list[int]:
    """Rays for the background and for each mover."""
    each = min(round(total * mover_share / n_movers), total // n_movers) if n_movers else 0
    return [total - each * n_movers] + [each] * n_movers
