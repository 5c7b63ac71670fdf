"""All options of a run: presets, a TOML file and `--set` on top of the stages' own defaults.

Choices that a person made (as opposed to defaults) are kept per workspace, so that later commands know them.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipelines.errors import InputError, UsageError
from pipelines.evaluate import EvaluateConfig
from pipelines.export import ExportConfig
from pipelines.flow import FlowConfig
from pipelines.frames import FramesConfig
from pipelines.render import RenderConfig
from pipelines.sample import SampleConfig
from pipelines.segment import SegmentConfig
from pipelines.sfm import SfmConfig
from pipelines.stage import StageConfig
from pipelines.tracks import TracksConfig
from pipelines.train import PRESETS as TRAIN_PRESETS
from pipelines.train import Preset, TrainConfig

Choices = dict[str, Any]
"""Nested options that a person gave: {"train": {"steps": 500}}."""

EXCLUSIVE = (("sfm", "focal_px", "fov_deg"),)
"""Pairs of one stage's options of which one is given at most: naming one takes the other back."""


class Config(StageConfig):
    """Every stage's options."""

    frames: FramesConfig = FramesConfig()
    flow: FlowConfig = FlowConfig()
    segment: SegmentConfig = SegmentConfig()
    tracks: TracksConfig = TracksConfig()
    sfm: SfmConfig = SfmConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()
    render: RenderConfig = RenderConfig()
    export: ExportConfig = ExportConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


def merge(*layers: Mapping[str, Any]) -> Choices:
    """Later layers win, key by key."""
    merged: Choices = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = merge(merged[key], value) if both else value
    return merged


def build(preset: Preset, choices: Mapping[str, Any]) -> Config:
    """Preset, then the person's choices.

    Raises UsageError: an unknown section or key (with the nearest known one), or a value out of range.
    """
    _reject_unknown(Config, choices, "")
    try:
        return Config.model_validate(merge({"train": TRAIN_PRESETS[preset]}, choices))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def _reject_unknown(model: type[BaseModel], choices: Mapping[str, Any], prefix: str) -> None:
    known = model.model_fields
    for key, value in choices.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known here: {', '.join(known)}"
            raise UsageError(f"unknown option {prefix}{key}: {hint}")
        nested = known[key].annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            if not isinstance(value, Mapping):
                raise UsageError(f"{prefix}{key} is a group of options: set one of {', '.join(nested.model_fields)} in it")
            _reject_unknown(nested, value, f"{prefix}{key}.")


def read_toml(path: Path) -> Choices:
    """Choices of a TOML file.

    Raises InputError: missing; UsageError: not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} is not TOML: {error}") from None


def parse_assignments(assignments: Iterable[str]) -> Choices:
    """`train.steps=500` -> {"train": {"steps": 500}}; the value is TOML, anything else is taken as text, nothing as None.

    Raises UsageError: no `=`, or no stage before the dot.
    """
    parsed: Choices = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or "." not in name:
            raise UsageError(f"--set {assignment}: expected STAGE.OPTION=VALUE, as in --set train.steps=500")
        try:
            value: Any = tomllib.loads(f"value = {text}")["value"] if text.strip() else None
        except tomllib.TOMLDecodeError:
            value = text
        for part in reversed(name.strip().split(".")):
            value = {part: value}
        parsed = merge(parsed, value)
    return parsed


def without_none(options: Any) -> Any:
    """Options as TOML can hold them: what is unset is left out."""
    if isinstance(options, Mapping):
        return {key: without_none(value) for key, value in options.items() if value is not None}
    return options


def write_effective(config: Config, path: Path) -> None:
    """Every option with its value in force, as a file that `--config` reads; those without a value in a comment."""
    import tomli_w

    options = config.model_dump(mode="json")
    unset = ", ".join(_unset(options, ""))
    path.write_text(f"# without a value: {unset}\n\n{tomli_w.dumps(without_none(options))}", encoding="utf-8")


def _unset(options: Mapping[str, Any], prefix: str) -> list[str]:
    """Full names of the options that have no value."""
    names = []
    for key, value in options.items():
        if isinstance(value, Mapping):
            names += _unset(value, f"{prefix}{key}.")
        elif value is None:
            names.append(f"{prefix}{key}")
    return names
