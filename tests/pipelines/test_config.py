import tomllib

import pytest

from pipelines.config import Config, build, merge, parse_assignments, read_toml, write_effective
from pipelines.errors import InputError, UsageError
from pipelines.train import PRESETS, Preset


def test_later_layers_win_key_by_key():
    assert merge({"train": {"steps": 1, "seed": 2}}, {"train": {"steps": 3}}) == {"train": {"steps": 3, "seed": 2}}


def test_assignments_are_toml_or_text():
    parsed = parse_assignments(["train.steps=500", "segment.method=masks", "export.meshing.max_faces=100", "frames.fps=7.5"])
    assert parsed == {
        "train": {"steps": 500},
        "segment": {"method": "masks"},
        "export": {"meshing": {"max_faces": 100}},
        "frames": {"fps": 7.5},
    }


@pytest.mark.parametrize("assignment", ["steps=500", "train.steps", ""])
def test_an_assignment_needs_stage_option_and_value(assignment):
    with pytest.raises(UsageError, match=r"expected STAGE\.OPTION=VALUE"):
        parse_assignments([assignment])


@pytest.mark.parametrize("preset", list(Preset))
def test_a_choice_wins_over_the_preset(preset):
    assert build(preset, {"train": {"steps": 17}}).train.steps == 17
    untouched = build(preset, {})
    for key, value in PRESETS[preset].items():
        assert getattr(untouched.train, key) == value


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"trian": {}}, "unknown option trian: did you mean train"),
        ({"train": {"step": 5}}, r"unknown option train\.step: did you mean train\.steps"),
        ({"export": {"meshing": {"max_face": 5}}}, r"unknown option export\.meshing\.max_face: did you mean"),
        ({"train": 5}, "train is a group of options"),
        ({"train": {"steps": "many"}}, r"train\.steps = 'many': input should be a valid integer"),
        ({"train": {"steps": 0}}, r"train\.steps = 0: input should be greater than or equal to 1"),
        ({"frames": {"zzz": 1}}, "known here: start_s"),
    ],
)
def test_wrong_options_are_one_line(choices, message):
    with pytest.raises(UsageError, match=message) as caught:
        build(Preset.FAST, choices)
    assert "\n" not in str(caught.value)


def test_the_effective_options_read_back(tmp_path):
    config = build(Preset.FAST, {"frames": {"fps": 7.5}})
    write_effective(config, tmp_path / "config.toml")
    assert tomllib.loads((tmp_path / "config.toml").read_text())["frames"]["fps"] == 7.5
    assert build(Preset.DEFAULT, read_toml(tmp_path / "config.toml")) == config


def test_files_that_are_no_toml(tmp_path):
    (tmp_path / "bad.toml").write_text("steps == 5")
    with pytest.raises(UsageError, match="is not TOML"):
        read_toml(tmp_path / "bad.toml")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_toml(tmp_path / "none.toml")


def test_every_option_has_a_default():
    assert Config() == build(Preset.DEFAULT, {})
