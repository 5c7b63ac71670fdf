"""The real chain on a tiny synthetic scene, through the command line, as a user runs it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from pipelines.artifacts import Flow, Labels, Samples, Sfm, Tracks, Video
from pipelines.synthetic import SceneSpec, make_scene

pytestmark = pytest.mark.slow

N_FRAMES = 14
TINY = ("train.steps=120", "train.max_side_px=96", "train.preview_every_steps=0", "export.meshing.object_cells=32")


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scene with späces")
    make_scene(SceneSpec(seed=3, n_movers=2, n_frames=N_FRAMES, width=160, height=120)).write(folder)
    return folder


def osn(*arguments: str, cwd: Path) -> tuple[dict, str]:
    """Result of `osn ... --json`, and what it said on stderr."""
    command = [sys.executable, "-m", "osn_cli", *arguments, "--json"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def decoded(path: Path) -> np.ndarray:
    """The frames of a video, (T, H, W, 3)."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    capture.release()
    return np.stack(frames)


@pytest.fixture(scope="module")
def workspace(scene) -> Path:
    """A workspace after the four commands of daily use, with imported masks."""
    settings = [part for setting in TINY for part in ("--set", setting)]
    osn("preprocess", "video.mp4", "--masks", "masks", cwd=scene)
    osn("train", "--preset", "fast", *settings, cwd=scene)
    osn("sample", "--n", "50", cwd=scene)
    osn("export", "--mesh", cwd=scene)
    return scene / "osn-work"


def test_every_artifact_is_there_and_loads(workspace):
    assert Video.load(workspace / "frames").n_frames == N_FRAMES
    labels = Labels.load(workspace / "segment")
    assert labels.maps.shape == (N_FRAMES, 120, 160)
    assert labels.n_objects == 3
    assert (0, 1) in Flow.load(workspace / "flow").pairs
    assert set(Tracks.load(workspace / "tracks").object_id.tolist()) <= {0, 1, 2}
    sfm = Sfm.load(workspace / "sfm")
    assert sfm.objects[0].usable
    samples = Samples.load(workspace / "sample")
    assert list(samples.object_ids) == sfm.scene_ids
    # Small frames are shown at twice their size.
    assert decoded(workspace / "segment" / "overlay.mp4").shape == (N_FRAMES, 240, 320, 3)


def test_samples_lie_in_the_intervals_that_are_told(workspace):
    samples = Samples.load(workspace / "sample")
    told = json.loads((workspace / "train" / "summary.json").read_text())
    for column, row in enumerate(told["scales"], start=1):
        assert row["object"] == samples.object_ids[column]
        assert np.all(samples.scale[:, column] >= row["smallest"] * (1 - 1e-6))
        assert np.all(samples.scale[:, column] <= row["largest"] * (1 + 1e-6))


def test_meshes_open_elsewhere(workspace):
    meshes = sorted((workspace / "export" / "mesh").rglob("*.ply"))
    assert meshes
    assert all(len(trimesh.load_mesh(path).faces) > 0 for path in meshes)


def test_a_second_run_does_nothing_and_says_so(workspace, scene):
    rows, said = osn("plan", cwd=scene)
    assert [row["stage"] for row in rows["stages"] if row["run"]] == ["render"]
    _, said = osn("sample", cwd=scene)
    assert "done in" not in said


def test_one_option_reruns_only_what_depends_on_it(workspace, scene):
    before = {name: (workspace / name / "manifest.json").stat().st_mtime_ns for name in ("sfm", "train")}
    _, said = osn("sample", "--n", "60", cwd=scene)
    assert "option sample.n changed from 50 to 60" in said
    assert {name: (workspace / name / "manifest.json").stat().st_mtime_ns for name in before} == before
    assert len(Samples.load(workspace / "sample").score) == 60


def test_status_counts_every_stage(workspace, scene):
    told, _ = osn("status", "--verify", cwd=scene)
    states = {row["stage"]: row["state"] for row in told["stages"]}
    assert all(states[name] == "up to date" for name in ("frames", "flow", "segment", "tracks", "sfm", "train"))


def test_a_damaged_result_is_healed(workspace, scene):
    victim = workspace / "frames" / "000003.png"
    content = victim.read_bytes()
    victim.write_bytes(content[:100])
    _, said = osn("flow", cwd=scene)
    assert "frames/000003.png is missing or damaged" in said
    assert victim.read_bytes() == content
    assert "flow      " not in said


def test_scenes_are_rendered_and_reported(workspace, scene):
    osn("render", "--path", "sway", "--samples", "0", "--width", "64", cwd=scene)
    (video,) = (workspace / "render").rglob("*.mp4")
    frames = decoded(video)
    assert frames.shape == (N_FRAMES, 48, 64, 3)
    # A room that is lit, filmed by a camera that sways.
    assert frames.mean() > 20
    assert np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3)).min() > 0.5
    osn("report", cwd=scene)
    assert "<video" in (workspace / "report.html").read_text(encoding="utf-8")


def test_the_demo_runs_to_its_end(scene, tmp_path):
    """On a scene that is there already, smaller than the demo's own."""
    (tmp_path / "scene").mkdir()
    shutil.copy(scene / "video.mp4", tmp_path / "scene" / "video.mp4")
    settings = [part for setting in TINY for part in ("--set", setting)]
    command = [sys.executable, "-m", "osn_cli", "demo", str(tmp_path), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Take a look at:" in done.stdout
    assert len(Samples.load(tmp_path / "osn-work" / "sample").score) == 1000
    assert list((tmp_path / "osn-work" / "export").rglob("*.ply"))
