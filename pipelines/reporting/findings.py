"""What a workspace holds that can be reported on. Stages that have not run are None or empty, not errors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from pipelines.artifacts import Labels, Samples, Sfm, Video, read_json
from pipelines.errors import WorkspaceError
from pipelines.scenery import SceneLike
from pipelines.store import Workspace

if TYPE_CHECKING:
    from pipelines.scene.scale_network import ScaleNetwork
    from pipelines.scene.zone import Zone

STAGES = ("frames", "flow", "segment", "tracks", "sfm", "train", "sample")


@dataclass(frozen=True)
class StageRecord:
    """One stage's result as its manifest describes it."""

    name: str
    wall_s: float | None
    size_mb: float | None
    outdated: str
    """Why the result is not what the present settings would make; empty when it is."""

    @property
    def made(self) -> bool:
        return self.wall_s is not None


@dataclass(frozen=True)
class Findings:
    """Everything that the report shows."""

    source: str
    stages: tuple[StageRecord, ...]
    config_text: str = ""
    video: Video | None = None
    labels: Labels | None = None
    overlay: Path | None = None
    sfm: Sfm | None = None
    scene: SceneLike | None = None
    zone: "Zone | None" = None
    network: "ScaleNetwork | None" = None
    log_scale_range: Float[np.ndarray, "K 2"] | None = None
    samples: Samples | None = None
    metrics: tuple[dict[str, Any], ...] = ()
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Figures that stages wrote about themselves: `train`, `sample`, `evaluate`."""


def read_findings(workspace: Workspace, *, source: str, outdated: Mapping[str, str], device: str = "cpu") -> Findings:
    """Load what is there and belongs together: a result made from others than those that are there now is left out.

    outdated: per stage, why its stored result is not what the present settings would make.
    Raises WorkspaceError: a result is damaged.
    """
    records = tuple(_record(workspace, name, outdated.get(name, "")) for name in STAGES)
    made = coherent_stages(workspace)
    labels = Labels.load(workspace.place("segment")) if "segment" in made else None
    sfm = Sfm.load(workspace.place("sfm")) if "sfm" in made else None
    scene = _scene(workspace.place("train"), device, outdated="train" in outdated) if "train" in made else None
    overlay = workspace.place("segment") / "overlay.mp4"
    config = workspace.folder / "config.toml"
    return Findings(
        source=source,
        stages=records,
        config_text=config.read_text(encoding="utf-8") if config.is_file() else "",
        video=Video.load(workspace.place("frames")) if "frames" in made else None,
        labels=labels if labels is None or sfm is None else sfm.corrected(labels, workspace.place("sfm")),
        overlay=overlay if overlay.is_file() else None,
        sfm=sfm,
        scene=scene,
        zone=scene.zone if scene else None,
        network=scene.network if scene else None,
        log_scale_range=scene.log_scale_range if scene else None,
        samples=Samples.load(workspace.place("sample")) if "sample" in made else None,
        metrics=read_metrics(workspace.place("train") / "metrics.jsonl") if "train" in made else (),
        summaries=_summaries(workspace, made),
    )


def _record(workspace: Workspace, name: str, outdated: str) -> StageRecord:
    manifest = workspace.manifest(name)
    if manifest is None:
        return StageRecord(name, None, None, "")
    size = sum(entry[0] for entry in manifest["outputs"].values()) / 2**20
    return StageRecord(name, float(manifest.get("wall_s", 0.0)), size, outdated)


def _scene(folder: Path, device: str, *, outdated: bool) -> Any:
    """The trained scene; none where an older version wrote it in a way that is not read any more."""
    from pipelines.scene.scene import Scene

    try:
        return Scene.load(folder, device=device)
    except WorkspaceError:
        if outdated:
            return None
        raise


def read_metrics(path: Path) -> tuple[dict[str, Any], ...]:
    """Rows of the training log; a last row that a kill cut off is left out."""
    rows = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(text))
        except ValueError:
            continue
    return tuple(rows)


def coherent_stages(workspace: Workspace) -> set[str]:
    """Stages whose results were made from the results that are there now."""
    made: set[str] = set()
    for name in (*STAGES, "evaluate"):
        manifest = workspace.manifest(name)
        if manifest is None:
            continue
        inputs = {
            key.removeprefix("input "): value for key, value in manifest["ingredients"].items() if key.startswith("input ")
        }
        known = [stage for stage in inputs if stage in STAGES]
        if all(stage in made and inputs[stage] == (workspace.manifest(stage) or {}).get("digest") for stage in known):
            made.add(name)
    return made


def _summaries(workspace: Workspace, made: set[str]) -> dict[str, dict[str, Any]]:
    files = {"train": "summary.json", "sample": "sample.json", "evaluate": "eval.json"}
    paths = {stage: workspace.place(stage) / name for stage, name in files.items()}
    return {stage: dict(read_json(path)) for stage, path in paths.items() if stage in made and path.is_file()}
