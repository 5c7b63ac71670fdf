"""Which stage needs what, and running only what is out of date."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pipelines import artifacts
from pipelines.choice import names_samples
from pipelines.config import Config
from pipelines.errors import UsageError, WorkspaceError
from pipelines.meshing.surfaces import MESHING_VERSION
from pipelines.progress import Progress, Silent
from pipelines.stage import StageConfig, StageContext, shortened
from pipelines.store import Ingredients, Verdict, Workspace

if TYPE_CHECKING:
    from pipelines.ground_truth import GroundTruth
    from pipelines.scene.scene import Scene
    from pipelines.sfm import SfmConfig


@dataclass(frozen=True)
class Inputs:
    """What stages read, loaded from the workspace when first asked for."""

    workspace: Workspace
    config: Config
    source: Path
    device: str

    @cached_property
    def video(self) -> artifacts.Video:
        return artifacts.Video.load(self.workspace.place("frames"))

    @cached_property
    def flow(self) -> artifacts.Flow:
        return artifacts.Flow.load(self.workspace.place("flow"))

    @cached_property
    def labels(self) -> artifacts.Labels:
        return artifacts.Labels.load(self.workspace.place("segment"))

    @cached_property
    def corrected_labels(self) -> artifacts.Labels:
        """The label maps for stages after sfm, where the motions correct them."""
        return self.sfm.corrected(self.labels, self.workspace.place("sfm"))

    @cached_property
    def tracks(self) -> artifacts.Tracks:
        return artifacts.Tracks.load(self.workspace.place("tracks"))

    @cached_property
    def sfm(self) -> artifacts.Sfm:
        return artifacts.Sfm.load(self.workspace.place("sfm"))

    @cached_property
    def scene(self) -> "Scene":
        from pipelines.scene.scene import Scene

        return Scene.load(self.workspace.place("train"), device=self.device)

    @cached_property
    def samples(self) -> artifacts.Samples:
        return artifacts.Samples.load(self.workspace.place("sample"))

    @cached_property
    def truth(self) -> "GroundTruth":
        from pipelines.evaluation.layouts import load_truth

        return load_truth(_truth_folder(self.config))


def _truth_folder(config: Config) -> Path:
    if config.evaluate.truth is None:
        raise UsageError("osn eval needs ground truth to compare with: osn eval --truth DIR")
    return config.evaluate.truth


@dataclass(frozen=True)
class Stage:
    """One stage: where it stands in the chain and how it is run."""

    name: str
    run: Callable[[Inputs, StageContext], object]
    options: Callable[[Config], StageConfig]
    needs: Callable[[Config], tuple[str, ...]]
    externals: Callable[[Config], dict[str, Path | None]] = field(default=lambda config: {})
    """Files outside the workspace that the result depends on, by the option that names them."""
    version: int | str = 1
    """Raised when the code changes what the stage makes."""
    resumable: bool = False
    variant: Callable[[Config], str] = field(default=lambda config: "")
    """Part of the place on disk, for stages of which several results live side by side."""

    def place(self, config: Config) -> str:
        variant = self.variant(config)
        return f"{self.name}/{variant}" if variant else self.name


def _frames(inputs: Inputs, context: StageContext) -> object:
    from pipelines.frames import extract_frames

    return extract_frames(inputs.config.frames, source=inputs.source, context=context)


def _flow(inputs: Inputs, context: StageContext) -> object:
    from pipelines.flow import compute_flow

    return compute_flow(inputs.config.flow, video=inputs.video, context=context)


def _segment(inputs: Inputs, context: StageContext) -> object:
    from pipelines.segment import segment

    flow = inputs.flow if "flow" in STAGES["segment"].needs(inputs.config) else None
    return segment(inputs.config.segment, video=inputs.video, flow=flow, context=context)


def _tracks(inputs: Inputs, context: StageContext) -> object:
    from pipelines.tracks import build_tracks

    return build_tracks(inputs.config.tracks, video=inputs.video, flow=inputs.flow, labels=inputs.labels, context=context)


def _sfm(inputs: Inputs, context: StageContext) -> object:
    from pipelines.sfm import reconstruct

    return reconstruct(
        _sfm_options(inputs.config), video=inputs.video, labels=inputs.labels, tracks=inputs.tracks, context=context
    )


def _train(inputs: Inputs, context: StageContext) -> object:
    from pipelines.train import train

    return train(inputs.config.train, video=inputs.video, labels=inputs.corrected_labels, sfm=inputs.sfm, context=context)


def _sample(inputs: Inputs, context: StageContext) -> object:
    from pipelines.sample import sample

    return sample(inputs.config.sample, scene=inputs.scene, context=context)


def _render(inputs: Inputs, context: StageContext) -> object:
    from pipelines.render import render

    samples = inputs.samples if "sample" in _render_needs(inputs.config) else None
    return render(inputs.config.render, scene=inputs.scene, samples=samples, context=context)


def _export(inputs: Inputs, context: StageContext) -> object:
    from pipelines.export import export

    needs = _export_needs(inputs.config)
    return export(
        inputs.config.export.relevant,
        video=inputs.video,
        labels=inputs.corrected_labels,
        sfm=inputs.sfm,
        scene=inputs.scene if "train" in needs else None,
        samples=inputs.samples if "sample" in needs else None,
        context=context,
    )


def _evaluate(inputs: Inputs, context: StageContext) -> object:
    from pipelines.evaluate import evaluate

    # Meshes are those of the export: what is there is reused.
    context = replace(context, items=inputs.workspace.items("export"))
    return evaluate(
        inputs.config.evaluate,
        video=inputs.video,
        scene=inputs.scene,
        samples=inputs.samples,
        sfm=inputs.sfm,
        labels=inputs.corrected_labels,
        truth=inputs.truth,
        context=context,
    )


def _sfm_options(config: Config) -> "SfmConfig":
    """Objects that a person gave, by masks or by clicks, stay as they were given."""
    if config.sfm.correct_masks is not None:
        return config.sfm
    given = config.segment.method == "masks" or config.segment.prompts is not None
    return config.sfm.model_copy(update={"correct_masks": not given})


def _segment_needs(config: Config) -> tuple[str, ...]:
    imported = config.segment.method == "masks" and config.segment.prompts is None
    return ("frames",) if imported else ("frames", "flow")


def _render_needs(config: Config) -> tuple[str, ...]:
    return ("train", "sample") if names_samples(config.render.samples) else ("train",)


def _export_needs(config: Config) -> tuple[str, ...]:
    """Cameras, points and masks are there before training, meshes before there are any scales."""
    export = config.export.relevant
    needs = ["frames", "segment", "sfm"]
    if export.needs_scene:
        needs.append("train")
    if export.needs_scales and names_samples(export.sample):
        needs.append("sample")
    return tuple(needs)


def _path_file(config: Config) -> dict[str, Path | None]:
    """The camera path of a person's own, when it is one."""
    return {"render.path": config.render.path_file}


def _render_variant(config: Config) -> str:
    """Camera path and samples as one folder name: `sway-diverse_4`; a path of one's own with a digest of its place."""
    path, file = Path(config.render.path), config.render.path_file
    own = f"-{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:6]}" if file else ""
    return shortened(re.sub(r"[^\w.+-]+", "_", f"{path.stem}{own}-{config.render.samples}"))


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("frames", _frames, lambda c: c.frames, lambda c: (), version=3),
        Stage("flow", _flow, lambda c: c.flow, lambda c: ("frames",), lambda c: {"flow.weights": c.flow.weights}),
        Stage(
            "segment",
            _segment,
            lambda c: c.segment,
            _segment_needs,
            lambda c: {
                "segment.masks": c.segment.masks if c.segment.method == "masks" else None,
                "segment.prompts": c.segment.prompts,
                "segment.weights": c.segment.weights,
            },
            version=7,
        ),
        Stage("tracks", _tracks, lambda c: c.tracks, lambda c: ("frames", "flow", "segment")),
        Stage("sfm", _sfm, _sfm_options, lambda c: ("frames", "segment", "tracks"), version=12),
        Stage("train", _train, lambda c: c.train, lambda c: ("frames", "segment", "sfm"), resumable=True, version=11),
        Stage("sample", _sample, lambda c: c.sample, lambda c: ("train",), version=6),
        Stage("render", _render, lambda c: c.render, _render_needs, _path_file, version=3, variant=_render_variant),
        Stage(
            "export",
            _export,
            lambda c: c.export.relevant,
            _export_needs,
            version=f"4, meshing {MESHING_VERSION}",
            variant=lambda c: "-".join(sorted(c.export.wanted)),
        ),
        Stage(
            "evaluate",
            _evaluate,
            lambda c: c.evaluate,
            lambda c: ("frames", "segment", "sfm", "train", "sample"),
            lambda c: {"evaluate.truth": _truth_folder(c), "evaluate.depth_prior": c.evaluate.depth_prior},
            version=f"5, meshing {MESHING_VERSION}",
        ),
    )
}
"""All stages, each after those that it needs."""

PREPROCESSING = ("frames", "flow", "segment", "tracks", "sfm")
CHAIN = (*PREPROCESSING, "train", "sample")


@runtime_checkable
class Observer(Protocol):
    """Who is told what the runner does."""

    def reused(self, stage: str) -> None: ...

    def started(self, stage: str, reason: str) -> None: ...

    def finished(self, stage: str, wall_s: float) -> None: ...


class NoObserver:
    """Nobody watches."""

    def reused(self, stage: str) -> None:
        pass

    def started(self, stage: str, reason: str) -> None:
        pass

    def finished(self, stage: str, wall_s: float) -> None:
        pass


@dataclass(frozen=True)
class Run:
    """One configuration of one workspace, ready to be planned or run."""

    workspace: Workspace
    config: Config
    source: Path
    device: str = "cpu"
    forced: frozenset[str] = frozenset()
    """Stages to run even where their results are up to date."""

    def closure(self, targets: Iterable[str]) -> list[Stage]:
        """The targets and everything that they need, in order."""
        wanted = set(targets)
        for stage in reversed(STAGES.values()):
            if stage.name in wanted:
                wanted.update(stage.needs(self.config))
        return [stage for stage in STAGES.values() if stage.name in wanted]

    def ingredients(self, stage: Stage) -> Ingredients:
        """What the stage's result is made from, given the results that are on disk now."""
        options = stage.options(self.config).model_dump(mode="json")
        found: dict[str, Any] = {f"option {stage.name}.{key}": value for key, value in options.items()}
        found["code version"] = stage.version
        for needed in stage.needs(self.config):
            manifest = self.workspace.manifest(STAGES[needed].place(self.config))
            found[f"input {needed}"] = manifest["digest"] if manifest else None
        outside = stage.externals(self.config) | ({"video": self.source} if stage.name == "frames" else {})
        for option, path in outside.items():
            if path is not None:
                found[f"input {option}"] = self._outside_digest(stage, f"input {option}", path)
        return found

    def _outside_digest(self, stage: Stage, ingredient: str, path: Path) -> str:
        """Digest of a file that a person gave. One that is gone counts as unchanged where its result is there."""
        manifest = self.workspace.manifest(stage.place(self.config))
        if not path.exists() and manifest and ingredient in manifest["ingredients"]:
            return str(manifest["ingredients"][ingredient])
        return self.workspace.input_digest(path)

    def check(self, stage: Stage, *, thorough: bool = False) -> Verdict:
        if stage.name in self.forced:
            return Verdict(False, "forced")
        return self.workspace.check(stage.place(self.config), self.ingredients(stage), thorough=thorough)

    def plan(self, targets: Iterable[str], *, thorough: bool = False) -> list[tuple[Stage, Verdict]]:
        """What would run, and why. A stage below one that will run is counted as out of date."""
        verdicts: list[tuple[Stage, Verdict]] = []
        stale: set[str] = set()
        for stage in self.closure(targets):
            above = [needed for needed in stage.needs(self.config) if needed in stale]
            verdict = self.check(stage, thorough=thorough)
            if verdict.hit and above:
                verdict = Verdict(False, f"if the new {above[0]} differ{'' if above[0].endswith('s') else 's'} from the old")
            if not verdict.hit:
                stale.add(stage.name)
            verdicts.append((stage, verdict))
        return verdicts

    def ensure(
        self, targets: Sequence[str], *, progress: Progress | None = None, observer: Observer | None = None
    ) -> dict[str, Path]:
        """Bring the targets up to date; the caller holds the workspace's lock. Returns every stage's folder.

        Raises WorkspaceError: an earlier stage's settings are not known, or the place cannot be written.
        """
        progress, observer = progress or Silent(), observer or NoObserver()
        inputs = Inputs(self.workspace, self.config, self.source, self.device)
        places: dict[str, Path] = {}
        for stage in self.closure(targets):
            place = stage.place(self.config)
            verdict = self.check(stage)
            if verdict.hit:
                observer.reused(stage.name)
            else:
                observer.started(stage.name, verdict.reason)
                self._make(stage, place, inputs, progress)
                manifest = self.workspace.manifest(place)
                if manifest is None:
                    raise WorkspaceError(f"{place} vanished while it was written: is another program working in the folder?")
                observer.finished(stage.name, manifest["wall_s"])
            places[stage.name] = self.workspace.place(place)
        return places

    def _make(self, stage: Stage, place: str, inputs: Inputs, progress: Progress) -> None:
        def run(folder: Path) -> None:
            context = StageContext(folder, self.workspace.items(stage.name), progress, self.device)
            stage.run(inputs, context)

        self.workspace.make(place, self.ingredients(stage), run, resumable=stage.resumable)
