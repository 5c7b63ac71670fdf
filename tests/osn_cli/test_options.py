"""What the command line says about options is what the stages say."""

import json
import re
import sys
from enum import StrEnum
from typing import get_args

import pytest
import typer

from osn_cli import app as application
from osn_cli import options
from osn_cli.session import FLAGS
from pipelines.config import Config, build, list_options, read_toml, write_effective
from pipelines.flow import FlowMethod
from pipelines.formats.mesh_files import MeshFormat
from pipelines.runner import STAGES
from pipelines.scene.zone_sampling import Measure
from pipelines.segment import SegmentMethod
from pipelines.segmentation.learned import SamModel
from pipelines.train import Preset

BY_NAME = {option.name: option for option in list_options(Config())}


@pytest.mark.parametrize(
    ("choice", "known"),
    [
        (options.FlowChoice, FlowMethod),
        (options.MeasureChoice, Measure),
        (options.MeshFormatChoice, MeshFormat),
        (options.MethodChoice, SegmentMethod),
        (options.ModelChoice, (*SamModel, "none")),
        (options.PresetChoice, Preset),
        (options.StageChoice, STAGES),
    ],
)
def test_choices_are_those_of_the_stages(choice: object, known: type[StrEnum]) -> None:
    assert sorted(get_args(choice)) == sorted(str(name) for name in known)


def test_messages_name_flags_and_options_that_exist() -> None:
    group = typer.main.get_command(application.app)
    flags = {flag for command in group.commands.values() for parameter in command.params for flag in parameter.opts}
    assert set(FLAGS.values()) <= flags
    assert {name for name in FLAGS if name != "export.meshing"} <= BY_NAME.keys()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("frames.max_frames", "integer >= 5"),
        ("frames.fps", "number > 0"),
        ("flow.method", "dis | raft-small | raft-large"),
        ("flow.strides", "list: integer >= 1"),
        ("segment.masks", "path"),
        ("segment.objects", "integer >= 0, <= 32"),
        ("train.field", "grid | tensorf"),
        ("render.path", "text"),
        ("render.outputs", "list: colour | depth | labels"),
        ("sfm.correct_masks", "true | false"),
        ("export.meshing.object_cells", "integer >= 16, <= 1024"),
    ],
)
def test_possible_values_are_told(name: str, values: str) -> None:
    assert BY_NAME[name].values == values


def test_the_text_below_an_option_is_its_description() -> None:
    assert BY_NAME["frames.images_fps"].description == "Frame rate of a folder of images."
    # One without a text of its own has that of its enumeration.
    assert BY_NAME["export.meshing.objects"].description == "Where a surface comes from."


def test_the_effective_options_are_explained_and_read_back(tmp_path) -> None:
    config = build(Preset.PAPER, {"frames": {"fps": 7.5}, "export": {"metric": 'object 1 height = "2" m'}})
    write_effective(config, tmp_path / "config.toml")
    text = (tmp_path / "config.toml").read_text(encoding="utf-8")
    assert "\n\n# Frame rate of a folder of images.\n# number > 0\nimages_fps = 24.0\n" in text
    assert "\n# number > 0\n# end_s =\n" in text
    assert read_toml(tmp_path / "config.toml") == {
        stage: without_unset(values) for stage, values in config.model_dump(mode="json").items()
    }
    assert build(Preset.DEFAULT, read_toml(tmp_path / "config.toml")) == config
    unset = [option.name.rpartition(".")[2] for option in list_options(config) if option.value is None]
    assert re.findall(r"^# (\w+) =$", text, re.MULTILINE) == unset


def without_unset(values: dict) -> dict:
    return {k: without_unset(v) if isinstance(v, dict) else v for k, v in values.items() if v is not None}


def test_options_are_listed_by_stage_and_preset(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["osn", "options", "train", "--preset", "paper", "--json"])
    with pytest.raises(SystemExit, match="0"):
        application.main()
    told = json.loads(capsys.readouterr().out)["options"]
    assert {row["option"].partition(".")[0] for row in told} == {"train"}
    assert {row["option"]: row["default"] for row in told}["train.steps"] == 30_000
