"""The command line from outside: one line per error, fixed exit codes, nothing heavy before it is needed."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from osn_cli import app as application
from osn_cli.console import Console
from osn_cli.session import Session

HEAVY = ("torch", "numba", "cv2", "pycolmap", "scipy", "skimage", "trimesh", "PIL")


@pytest.fixture
def osn(tmp_path: Path, monkeypatch, capsys):
    """Run the command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["osn", *arguments])
        with pytest.raises(SystemExit) as caught:
            application.main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    # Where the tests run in the background, a shell has SIGINT ignored.
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGINT, signal.default_int_handler)
    yield run
    for each, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
        signal.signal(each, handler)


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nsys.argv = ['osn', '--help']\nfrom osn_cli.app import main\n"
        f"try:\n    main()\nexcept SystemExit:\n    pass\nprint([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    assert "preprocess" in done.stdout


def test_planning_imports_nothing_heavy(tmp_path):
    (tmp_path / "workspace.json").write_text(json.dumps({"source": "gone.mp4", "choices": {}, "preset": "fast"}))
    program = (
        f"import sys\nsys.argv = ['osn', 'plan', '-w', {str(tmp_path)!r}, '--device', 'cpu']\nfrom osn_cli.app import main\n"
        f"try:\n    main()\nexcept SystemExit:\n    pass\nprint([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("preprocess", "none.mp4"), 3, "none.mp4 does not exist: give a video file or a folder of images"),
        (("preprocess", "v.mp4", "--masks", "none"), 3, "none does not exist: give a folder of label maps"),
        (("preprocess", "v.mp4", "--masks", ".", "--method", "motion"), 2, "--masks and --method motion exclude each other"),
        (("train", "--seed", "-1"), 2, "--seed -1: input should be greater than or equal to 0"),
        (("train", "--set", "train.seed=-1"), 2, "train.seed = -1: input should be greater than or equal to 0"),
        (("train", "--seed", "1", "--set", "train.seed=-1"), 2, "train.seed = -1: input"),
        (("preprocess", "v.mp4", "--set", "train.bootstrap_share=1"), 2, "train: bootstrap_share 1.0 and"),
        (("render", "--set", "render.outputs=[]"), 2, "render.outputs"),
        (("train", "--device", "gpu"), 2, "--device gpu: expected auto, cpu, or cuda"),
        (("annotate", "v.mp4", "--save-to", "nowhere/p.json"), 3, "give a file in an existing, writable folder"),
        (("annotate", "v.mp4", "--host", "203.0.113.9"), 2, "--host 203.0.113.9: cannot listen on this address"),
        (("train",), 4, "there is no workspace in osn-work: run osn preprocess VIDEO first"),
        (("status", "-w", "elsewhere"), 4, "there is no workspace in elsewhere"),
        (("preprocess", "v.mp4", "--set", "train.step=5"), 2, "unknown option train.step: did you mean train.steps?"),
        (("preprocess", "v.mp4", "--set", "steps"), 2, "expected STAGE.OPTION=VALUE"),
        (("preprocess", "v.mp4", "--preset", "fats"), 2, "'--preset': 'fats' is not one of 'fast', 'default', 'paper'"),
        (("preprocess", "v.mp4", "--from", "trian"), 2, "Invalid value for '--from': 'trian' is not one of 'frames'"),
        (("preprocess", "v.mp4", "--flow", "dix"), 2, "Invalid value for '--flow': 'dix' is not one of 'dis'"),
        (("preprocess", "v.mp4", "--method", "magic"), 2, "Invalid value for '--method': 'magic' is not one of 'motion'"),
        (("sample", "--measure", "cubic"), 2, "Invalid value for '--measure': 'cubic' is not one of 'linear', 'log'"),
        (("export", "--format", "stl"), 2, "Invalid value for '--format': 'stl' is not one of 'ply', 'obj', 'glb'"),
        (("weights", "list", "--preset", "fast"), 2, "No such option: --preset"),
        (("weights", "list", "--device", "nowhere"), 2, "No such option: --device"),
        (("doctor", "-w", "elsewhere"), 2, "No such option: -w"),
        (("demo", "-w", "elsewhere"), 2, "No such option: -w"),
        (("status", "--force"), 2, "No such option: --force"),
        (("options", "trian"), 2, "'trian' is not one of 'frames'"),
        (("preprocess", "v.mp4", "--config", "none.toml"), 3, "--config none.toml cannot be read"),
        (("preprocess", "v.mp4", "--max-frames", "2"), 2, "--max-frames 2: input should be greater than or equal to 5"),
        (("train", "--stesp", "5"), 2, "No such option: --stesp"),
        (("trian",), 2, "No such command 'trian'"),
        (("view", "--port", "-1"), 2, "Invalid value for '--port'"),
        (("demo", "v.mp4"), 2, "v.mp4 is a file: give a folder for the demo"),
        (("demo", "--seed", "-1"), 2, "Invalid value for '--seed'"),
        (("weights", "verify", "nothing"), 2, "there are no weights named nothing: choose one of"),
    ],
)
def test_mistakes_are_one_line_and_a_fixed_code(osn, tmp_path, arguments, code, message):
    if "v.mp4" in arguments:
        (tmp_path / "v.mp4").write_bytes(b"x")
    found, out, err = osn(*arguments)
    assert found == code
    assert out == ""
    assert err.startswith("error ")
    assert err.count("\n") == 1
    assert message in err


def test_a_remembered_preset_that_does_not_exist(osn, tmp_path):
    (tmp_path / "osn-work").mkdir()
    (tmp_path / "osn-work" / "workspace.json").write_text(json.dumps({"source": "v.mp4", "preset": "fats"}))
    code, _, err = osn("status")
    assert code == 2 and "there is no preset fats: choose one of fast, default, paper with --preset" in err


def test_debug_adds_the_traceback(osn):
    code, _, err = osn("train", "--debug")
    assert code == 4
    assert "Traceback" in err and err.splitlines()[-1].startswith("error there is no workspace")


def test_without_a_command_there_is_help_and_no_error(osn):
    code, _, err = osn()
    assert code == 2 and "error" not in err.lower().replace("errors", "")


def test_a_choice_that_fails_is_not_remembered(osn, tmp_path):
    (tmp_path / "osn-work").mkdir()
    memory = {"source": str(tmp_path / "v.mp4"), "choices": {"frames": {"fps": 5.0}}, "preset": "fast"}
    (tmp_path / "v.mp4").write_text("no video")
    (tmp_path / "osn-work" / "workspace.json").write_text(json.dumps(memory))
    assert osn("flow", "--flow", "raft-small", "--max-frames", "7")[0] == 3
    assert json.loads((tmp_path / "osn-work" / "workspace.json").read_text()) == memory
    code, _, err = osn("render", "--path", "nope.json")
    assert code == 3 and "nope.json does not exist" in err
    assert json.loads((tmp_path / "osn-work" / "workspace.json").read_text()) == memory


def remembered(osn_session: Session, **options) -> dict:
    """What a command with these options would remember."""
    return osn_session.prepare(["sfm"], **options)[1]["choices"]


def test_choices_are_taken_back_by_an_empty_value_or_by_their_rival(tmp_path):
    known = {"sfm": {"focal_px": 300.0}, "export": {"metric": "object 1 height = 2 m"}}
    memory = {"source": str(tmp_path / "v.mp4"), "choices": known, "preset": "fast"}
    (tmp_path / "workspace.json").write_text(json.dumps(memory))
    session = Session(Console(), tmp_path)
    assert remembered(session) == known
    assert remembered(session, choices={"sfm": {"fov_deg": 50.0, "focal_px": None}})["sfm"] == {"fov_deg": 50.0}
    assert remembered(session, choices={"export": {"metric": ""}})["export"] == {}
    assert remembered(replace(session, assignments=("export.metric=",)))["export"] == {}


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"source": 3}', '{"source": "v.mp4", "choices": {"train": 5}}'])
def test_a_damaged_memory_says_what_to_do(osn, tmp_path, content):
    (tmp_path / "osn-work").mkdir()
    (tmp_path / "osn-work" / "workspace.json").write_text(content)
    code, _, err = osn("status")
    assert code == 4 and "delete it and run osn preprocess VIDEO again" in err


@pytest.mark.parametrize("asked_by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_says_that_no_finished_work_is_lost(asked_by, osn, monkeypatch):
    def interrupt(self, *arguments, **options):
        os.kill(os.getpid(), asked_by)

    monkeypatch.setattr(Session, "execute", interrupt)
    code, _, err = osn("train")
    assert code == 130
    assert "no finished work was lost; run the same command again to resume" in err


def test_another_video_needs_another_workspace(osn, tmp_path):
    (tmp_path / "osn-work").mkdir()
    (tmp_path / "osn-work" / "workspace.json").write_text(json.dumps({"source": "/a.mp4", "choices": {}, "preset": "fast"}))
    (tmp_path / "osn-work" / "frames").mkdir()
    (tmp_path / "osn-work" / "frames" / "manifest.json").write_text("{}")
    (tmp_path / "b.mp4").write_bytes(b"x")
    code, _, err = osn("preprocess", "b.mp4")
    assert code == 2
    assert "osn-work holds the results of /a.mp4: choose another folder with -w DIR" in err


def test_a_first_try_that_failed_does_not_keep_the_workspace(osn, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    assert osn("preprocess", "empty")[0] == 3
    code, _, err = osn("preprocess", "text.mp4")
    assert code == 3
    assert "text.mp4 is not a video" in err


def test_the_workspace_comes_from_the_environment(osn, monkeypatch):
    monkeypatch.setenv("OSN_WORKSPACE", "from-environment")
    assert "there is no workspace in from-environment" in osn("train")[2]


def test_a_text_file_leaves_the_old_results_alone(osn, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    code, _, err = osn("preprocess", "text.mp4")
    assert code == 3
    assert "text.mp4 is not a video that can be decoded" in err.replace(str(tmp_path), "")
    assert not (tmp_path / "osn-work" / "frames").exists()


def test_the_workspace_in_the_environment_may_be_empty(osn, monkeypatch):
    monkeypatch.setenv("OSN_WORKSPACE", "")
    assert "there is no workspace in osn-work" in osn("train")[2]


def test_versions_are_one_line(osn):
    code, out, _ = osn("--version")
    assert code == 0
    assert re.fullmatch(r"osn-cli \d+\.\d+\.\d+, Python 3\.\d+\.\d+\S*, torch \d+\.\d+\.\d+\S*\n", out)


def test_weights_list_is_readable_by_scripts(osn):
    code, out, _ = osn("weights", "list", "--json")
    assert code == 0
    assert "raft-small" in [row["name"] for row in json.loads(out)["weights"]]


@pytest.mark.parametrize("remembered_metric", [None, "object 1 height = 2 m"])
def test_an_export_is_told_and_forgets_what_it_does_not_read(tmp_path, monkeypatch, capsys, remembered_metric):
    export = {} if remembered_metric is None else {"metric": remembered_metric}
    memory = {"source": str(tmp_path / "v.mp4"), "choices": {"export": export}, "preset": "fast"}
    (tmp_path / "workspace.json").write_text(json.dumps(memory))
    asked = []

    def execute(self, stages, choices):
        asked.append(choices["export"])
        return None, {"export": tmp_path}

    monkeypatch.setattr(Session, "execute", execute)
    Session(Console(), tmp_path).export_each(["mesh", "glb", "colmap"], {"sample": "9", "mesh_format": "obj", "metric": None})
    assert ["sample" in choices for choices in asked] == [remembered_metric is not None, True, False]
    assert ["mesh_format" in choices for choices in asked] == [True, False, False]
    said = capsys.readouterr().err
    assert "--sample has no effect on colmap" in said and "--format has no effect on glb" in said
    assert ("--sample has no effect on mesh" in said) is (remembered_metric is None)
