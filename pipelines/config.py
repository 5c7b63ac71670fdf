"""All options of a run: presets, a TOML file and `--set` on top of the stages' own defaults.

Choices that a person made (as opposed to defaults) are kept per workspace, so that later commands know them.
"""

import difflib
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
"""Pairs of options of one stage of which at most one is given: setting one unsets the other."""

COMMENT_WIDTH = 100


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


def build(preset: Preset, choices: Mapping[str, Any], flags: Mapping[str, str] | None = None) -> Config:
    """Preset, then the person's choices. flags: by which flag an option was given ("frames.fps": "--fps"), for the message.

    Raises UsageError: an unknown section or key (with the nearest known one), or a value out of range.
    """
    _reject_unknown(Config, choices, "")
    try:
        return Config.model_validate(merge({"train": TRAIN_PRESETS[preset]}, choices))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        reason = f"{reason[0].lower()}{reason[1:]}"
        if isinstance(first["input"], Mapping):
            raise UsageError(f"{where}: {reason}") from None
        flag = (flags or {}).get(where)
        given = f"{where} = {first['input']!r}" if flag is None else f"{flag} {first['input']}"
        raise UsageError(f"{given}: {reason}") from None


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
    """Every option with its value in force, below what it means, as a file that `--config` reads.

    Those without a value are in a comment.
    """
    lines = [
        "# Every option with its value in force; without a value: commented out.",
        "# `osn ... --config FILE` reads this file.",
    ]
    table = ""
    for option in list_options(config):
        if option.table != table:
            table = option.table
            lines += ["", f"[{table}]"]
        told = [*textwrap.wrap(option.description, COMMENT_WIDTH, break_on_hyphens=False), option.values]
        lines += ["", *(f"# {line}" for line in told)]
        lines.append(option.assignment)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


@dataclass(frozen=True)
class Option:
    """One option, as a person looks it up."""

    name: str
    """With its stage: "train.steps"."""
    value: Any
    """As JSON holds it; None: unset."""
    values: str
    """What it may be: "integer >= 1", "dis | raft-small | raft-large"."""
    description: str
    """Empty where the stage gives none."""

    @property
    def table(self) -> str:
        """The part before the last dot: a TOML table."""
        return self.name.rpartition(".")[0]

    @property
    def assignment(self) -> str:
        """A line of TOML, or several."""
        import tomli_w

        key = self.name.rpartition(".")[2]
        return f"# {key} =" if self.value is None else tomli_w.dumps({key: self.value}).rstrip()


def list_options(config: Config) -> list[Option]:
    """Every option with its value in this configuration, stage by stage."""
    return list(_options(config, config.model_dump(mode="json"), ""))


def _options(config: BaseModel, dumped: Mapping[str, Any], prefix: str) -> Iterator[Option]:
    """The options of one group, then those of the groups in it."""
    groups = {name: group for name in type(config).model_fields if isinstance(group := getattr(config, name), BaseModel)}
    schema = {} if len(groups) == len(dumped) else type(config).model_json_schema()
    for name, value in dumped.items():
        if name not in groups:
            described = _resolved(schema["properties"][name], schema)
            text = " ".join(described.get("description", "").split())
            yield Option(f"{prefix}{name}", value, _values(described, schema), text)
    for name, group in groups.items():
        yield from _options(group, dumped[name], f"{prefix}{name}.")


def _resolved(described: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of a JSON schema with what it refers to; the entry's own words win."""
    named = described.get("$ref", "").rpartition("/")[2]
    return {**schema["$defs"][named], **described} if named else dict(described)


def _values(described: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The values that an entry of a JSON schema allows, in words."""
    described = _resolved(described, schema)
    if "anyOf" in described:
        return " or ".join(_values(one, schema) for one in described["anyOf"] if one.get("type") != "null")
    if "enum" in described:
        return " | ".join(str(one) for one in described["enum"])
    if described["type"] == "array":
        return f"list: {_values(described['items'], schema)}"
    if described["type"] == "boolean":
        return "true | false"
    kind = "path" if described.get("format") == "path" else {"string": "text"}.get(described["type"], described["type"])
    bounds = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}
    told = [f"{sign} {described[name]}" for sign, name in bounds.items() if name in described]
    return " ".join([kind, ", ".join(told)]).strip()
