"""From a command's options to a configured run: the workspace, what it remembers, and the choices made now."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osn_cli.console import Console
from pipelines.errors import InputError, MissingDependencyError, ReconstructionError, UsageError, WorkspaceError
from pipelines.json_files import read_json, write_json

if TYPE_CHECKING:
    from pipelines.config import Config
    from pipelines.runner import Run

DEFAULT_WORKSPACE = Path("osn-work")
MEMORY = "workspace.json"
FLAGS = {
    "frames.start_s": "--start",
    "frames.end_s": "--end",
    "frames.fps": "--fps",
    "frames.max_frames": "--max-frames",
    "frames.max_side": "--max-side",
    "flow.method": "--flow",
    "segment.method": "--method",
    "segment.masks": "--masks",
    "segment.prompts": "--prompts",
    "segment.objects": "--objects",
    "sfm.focal_px": "--focal-px",
    "sfm.fov_deg": "--fov-deg",
    "train.seed": "--seed",
    "sample.n": "--n",
    "sample.seed": "--seed",
    "sample.measure": "--measure",
    "render.path": "--path",
    "render.samples": "--samples",
    "render.width_px": "--width",
    "export.sample": "--sample",
    "export.mesh_format": "--format",
    "export.meshing": "--max-faces",
    "export.meshing.max_faces": "--max-faces",
    "export.metric": "--metric",
    "evaluate.truth": "--truth",
    "evaluate.truths": "--truths",
    "evaluate.n_views": "--views",
    "evaluate.meshes": "--meshes",
}
"""The flag that sets an option: messages about a value name what was typed."""


@dataclass(frozen=True)
class Session:
    """A workspace, how it is to be read or worked on, and whom to tell."""

    console: Console
    folder: Path = DEFAULT_WORKSPACE
    config_file: Path | None = None
    assignments: tuple[str, ...] = ()
    preset: str | None = None
    device: str = "auto"
    force: bool = False
    from_stage: str | None = None

    def memory(self) -> dict[str, Any]:
        """What the workspace remembers: source, preset, choices per stage.

        Raises WorkspaceError: nothing has been preprocessed here yet.
        """
        path = self.folder / MEMORY
        if not path.is_file():
            raise WorkspaceError(
                f"there is no workspace in {self.folder}: run osn preprocess VIDEO first, or choose another with -w DIR"
            )
        try:
            memory = {"choices": {}, "preset": None, **read_json(path)}
        except (WorkspaceError, TypeError):
            memory = {}
        choices = memory.get("choices")
        if (
            not isinstance(memory.get("source"), str)
            or not isinstance(choices, dict)
            or not all(isinstance(options, dict) for options in choices.values())
        ):
            raise WorkspaceError(f"{path} is damaged: delete it and run osn preprocess VIDEO again; finished results are kept")
        return memory

    def _remember(self, source: Path | None, choices: Mapping[str, Any], stages: Sequence[str]) -> dict[str, Any]:
        """Add the choices of this command to what the workspace remembers.

        Naming the video resets the stages up to the last one asked for to their defaults; without it, choices add up.
        """
        from pipelines.config import EXCLUSIVE, merge, without_none
        from pipelines.runner import STAGES

        if source is None:
            memory = self.memory()
        else:
            known = self.memory() if (self.folder / MEMORY).is_file() else {}
            self._refuse_another_video(known.get("source"), source)
            names = list(STAGES)
            renewed = names[: max(names.index(stage) for stage in stages) + 1]
            kept = {stage: options for stage, options in known.get("choices", {}).items() if stage not in renewed}
            memory = {"source": str(source.resolve()), "choices": kept, "preset": known.get("preset")}
        for stage, one, other in EXCLUSIVE:
            given = without_none(choices).get(stage, {})
            if (one in given) != (other in given):
                memory["choices"] = merge(memory["choices"], {stage: {other if one in given else one: None}})
        memory["choices"] = without_none(merge(memory["choices"], choices))
        memory["preset"] = self.preset or memory.get("preset") or default_preset(self.device)
        return memory

    def _refuse_another_video(self, known: str | None, source: Path) -> None:
        # A first try that failed (a mistyped path) left no results: another video may take its place.
        has_results = any(self.folder.glob("*/manifest.json"))
        if known is not None and has_results and known != str(source.resolve()) and not self.force:
            raise UsageError(
                f"{self.folder} holds the results of {known}: choose another folder with -w DIR, or replace them with --force"
            )

    def prepare(
        self, stages: Sequence[str], *, source: Path | None = None, choices: Mapping[str, Any] | None = None
    ) -> tuple["Run", dict[str, Any]]:
        """A run of the stages under the effective configuration, and what to remember of it. Writes nothing.

        Raises OsnError: unknown options, no workspace, an unusable device.
        """
        from pipelines.config import build, merge, parse_assignments, read_toml, without_none
        from pipelines.runner import STAGES, Run
        from pipelines.store import Workspace
        from pipelines.train import Preset

        given, assigned = without_unset(choices or {}), parse_assignments(self.assignments)
        typed = merge(read_toml(self.config_file) if self.config_file else {}, given, assigned)
        by_flag = leaves(given) - leaves(assigned)
        asked = build(Preset.DEFAULT, without_none(typed), {name: flag for name, flag in FLAGS.items() if name in by_flag})
        device = resolve_device(self.device)
        memory = self._remember(source, absolute_paths(typed, asked), stages)
        config = build(parse_preset(memory["preset"]), memory["choices"])
        forced = set(stages) if self.force else set()
        if self.from_stage is not None:
            names = list(STAGES)
            forced.update(names[names.index(self.from_stage) :])
        run = Run(Workspace(self.folder), config, Path(memory["source"]), device, frozenset(forced))
        return run, memory

    def execute(
        self, stages: Sequence[str], *, source: Path | None = None, choices: Mapping[str, Any] | None = None
    ) -> tuple["Run", dict[str, Path]]:
        """Bring the stages up to date. Returns the run and the folders of all results.

        The choices are remembered before the work, so that it can go on after a kill, but not if it fails because of them
        (or for a reason that nobody foresaw).
        """
        from pipelines.config import write_effective

        if source is not None and not source.exists():
            raise InputError(f"{source} does not exist: give a video file or a folder of images")
        run, memory = self.prepare(stages, source=source, choices=choices)
        run.workspace.create()
        with run.workspace.lock():
            path, effective = self.folder / MEMORY, self.folder / "config.toml"
            before = dict(read_json(path)) if path.is_file() else {**memory, "choices": {}}
            was_effective = effective.read_bytes() if effective.is_file() else b""
            write_json(path, memory)
            write_effective(run.config, effective)
            try:
                return run, run.ensure(stages, progress=self.console, observer=self.console)
            except (WorkspaceError, MissingDependencyError, ReconstructionError):
                # None of these is the fault of a choice that could be taken back by forgetting it.
                raise
            except Exception:
                write_json(path, before)
                effective.write_bytes(was_effective)
                raise

    def export_each(self, formats: Sequence[str], details: Mapping[str, Any]) -> list[Path]:
        """Write each format into a folder of its own, so that one does not undo another. Returns the folders."""
        from pipelines.export import FORMATS, read_by

        places, session = [], self
        run, _ = self.prepare(["export"], choices={"export": {"metric": details.get("metric")}})
        for name in formats:
            known = read_by(name, metric=run.config.export.metric is not None)
            read = {key: value for key, value in details.items() if key in known}
            for key in sorted(details.keys() - known):
                if details[key] is not None:
                    self.console.note(f"{FLAGS[f'export.{key}']} has no effect on {name}")
            choices = {"export": {**{output: output == name for output in FORMATS}, **read}}
            places.append(session.execute(["export"], choices=choices)[1]["export"])
            # --from recomputes once, not for each format.
            session = replace(session, from_stage=None)
        return places


def parse_preset(name: str) -> Any:
    from pipelines.train import Preset

    try:
        return Preset(name)
    except ValueError:
        raise UsageError(f"there is no preset {name}: choose one of {', '.join(Preset)} with --preset") from None


def leaves(choices: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Full names of nested options: {"export": {"meshing": {"max_faces": 5}}} -> {"export.meshing.max_faces"}."""
    names: set[str] = set()
    for key, value in choices.items():
        names |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}"}
    return names


def without_unset(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were really given on the command line; an empty text takes a remembered one back."""
    return {
        stage: {k: None if v == "" else v for k, v in options.items() if v is not None} for stage, options in choices.items()
    }


def absolute_paths(choices: Mapping[str, Any], config: "Config") -> dict[str, Any]:
    """Paths that stay right when the next command runs in another folder. config: the choices, with their types.

    Raises InputError: one of them does not exist.
    """

    def absolute(stage: str, name: str, value: Any) -> Any:
        options = getattr(config, stage)
        path = options.path_file if (stage, name) == ("render", "path") else getattr(options, name)
        if value is None or not isinstance(path, Path):
            return value
        if not path.exists():
            known = f", or choose one of {', '.join(PathKind)}" if stage == "render" else ""
            raise InputError(f"{path} does not exist: check the path{known}")
        return str(path.resolve())

    from pipelines.cameras.paths import PathKind

    return {stage: {k: absolute(stage, k, v) for k, v in options.items()} for stage, options in choices.items()}


def resolve_device(name: str) -> str:
    """`auto` is CUDA if there is a GPU. torch is only asked where the answer is not obvious.

    Raises UsageError: CUDA was asked for and is not available.
    """
    if name not in ("auto", "cpu") and not name.startswith("cuda"):
        raise UsageError(f"--device {name}: expected auto, cpu, or cuda")
    if name == "cpu" or (name == "auto" and not _nvidia_driver()):
        return "cpu"
    import torch

    if torch.cuda.is_available() and name in ("auto", "cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))):
        return "cuda" if name == "auto" else name
    if name == "auto":
        return "cpu"
    raise UsageError(f"--device {name}: not available on this machine (torch {torch.__version__}); use --device cpu")


def _nvidia_driver() -> bool:
    """Whether CUDA is possible at all, without paying for an import of torch."""
    return any(Path(place).exists() for place in ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg")) or os.name == "nt"


def default_preset(device: str) -> str:
    """`fast` where the scene is learned on a CPU, `default` on a GPU."""
    return "fast" if resolve_device(device) == "cpu" else "default"
