"""Rows of benchmarks: kept, compared, and laid out beside the paper's; exact reconstructions for benchmarks of training."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import automatic, paper
from benchmarks.__main__ import BENCHMARKS, regressions, sign
from benchmarks.known import true_sfm
from benchmarks.tables import KEPT_IN, markdown, record, stored
from pipelines.artifacts import Labels
from pipelines.evaluation.poses import pose_error
from pipelines.geometry import project, transform
from pipelines.synthetic import SceneSpec, make_scene


def test_rows_survive_a_kill(tmp_path, monkeypatch):
    own, everything = tmp_path / "own.jsonl", tmp_path / "all.jsonl"
    monkeypatch.setenv(KEPT_IN, str(everything))
    record("speed", {"clip": "a", "cpu_s": 1.5}, own)
    record("speed", {"clip": "b", "cpu_s": 2.5})
    with own.open("a") as file:
        file.write('{"table": "speed", "cl')
    assert stored(own) == [{"table": "speed", "clip": "a", "cpu_s": 1.5}]
    assert [row["clip"] for row in stored(everything)] == ["a", "b"]
    assert stored(tmp_path / "none.jsonl") == []


def test_a_table_has_the_columns_of_all_rows():
    lines = markdown(
        [{"table": "x", "name": "a", "peak_gib": 0.12345}, {"name": "b", "n": 12345, "peak_gib": None}]
    ).splitlines()
    assert lines == ["| name | peak gib | n |", "|---|---|---|", "| a | 0.123 | - |", "| b | - | 12,345 |"]


def test_what_is_better():
    more = ("psnr_db", "ssim", "miou", "pq", "zone_recall", "f_score_2_percent", "bootstrap_rays_per_s", "share_right")
    less = ("ssimae", "lpips", "cpu_s", "alternate_ms_per_step", "peak_gib", "rotation_deg", "position_percent")
    less += ("given_error_percent", "log_distance", "invalid_share", "median_px", "seconds")
    neither = ("frames", "side_px", "true_log_scale", "tolerance", "deviation", "K")
    assert [sign(name) for name in more] == [1] * len(more)
    assert [sign(name) for name in less] == [-1] * len(less)
    assert [sign(name) for name in neither] == [0] * len(neither)


def test_only_what_became_worse_beyond_noise_is_a_regression():
    earlier = [
        {"table": "quality", "scene": "a", "psnr_db": 25.0, "ssimae": 0.1, "frames": 20},
        {"table": "truths", "scene": "a", "measure": "ssimae", "mean": 0.10},
        {"table": "speed", "clip": "a", "cpu_s": 10.0},
        {"table": "speed", "clip": "b", "cpu_s": 10.0},
        {"table": "objects", "object": "1", "status": "ok", "rotation_deg": 0.5},
    ]
    now = [
        {"table": "quality", "scene": "a", "psnr_db": 23.0, "ssimae": 0.05, "frames": 30},
        {"table": "truths", "scene": "a", "measure": "ssimae", "mean": 0.12},
        {"table": "speed", "clip": "a", "cpu_s": 11.0},
        {"table": "speed", "clip": "b", "failed": "out of memory"},
        {"table": "speed", "clip": "new", "cpu_s": 99.0},
        {"table": "objects", "object": "1", "status": "unreliable", "rotation_deg": None},
    ]
    found = list(regressions(now, earlier))
    assert [(row["figure"], row["earlier"], row["now"]) for row in found[:2]] == [("psnr_db", 25.0, 23.0), ("mean", 0.10, 0.12)]
    assert [row["figure"] for row in found] == ["psnr_db", "mean", "failed", "rotation_deg", "status"]
    assert not list(regressions(earlier, earlier))


def test_what_is_not_measured_any_more_is_a_regression():
    earlier = [
        {"table": "quality", "scene": "a", "psnr_db": 25.0},
        {"table": "quality", "scene": "b", "psnr_db": 25.0},
        {"table": "flow", "stride": "1", "error_px": 0.1},
    ]
    found = list(regressions([{"table": "quality", "scene": "a", "psnr_db": None}], earlier))
    assert [(row["figure"], row["now"]) for row in found] == [("all", "-"), ("psnr_db", "-")]
    assert "scene=b" in found[0]["row"]


def test_unknown_pixels_of_a_mask_do_not_raise_its_iou(tmp_path):
    true = np.zeros((2, 10, 10), np.uint8)
    true[:, :5] = 1
    found = np.where(np.arange(10)[None, None] < 2, true, 255).astype(np.uint8)
    truth = SimpleNamespace(segm_train=true, n_objects=2)
    iou = automatic.overlaps(Labels(found, ("background", "mover")), truth)
    assert iou[1, 1] == pytest.approx(0.2)


def test_every_listed_benchmark_exists():
    import importlib.util

    for benchmark in BENCHMARKS.values():
        assert importlib.util.find_spec(f"benchmarks.{benchmark.module}"), benchmark.module


def test_the_papers_mean_stands_below_ours():
    rows = [{"scene": "one", "psnr_db": 24.0, "ssim": 0.8, "lpips": None}, {"scene": "two", "psnr_db": 26.0, "ssim": 0.9}]
    *scenes, mean, theirs = paper.table("dynamic_indoor_scene", rows)
    assert scenes == rows
    assert mean["psnr_db"] == 25.0 and mean["ssim"] == pytest.approx(0.85) and mean["lpips"] is None
    assert theirs["psnr_db"] == 25.984 and theirs["lpips"] == paper.UNKNOWN
    assert set(paper.table("another set", rows)[-1].values()) == {"paper, mean of another set", paper.UNKNOWN}


def test_scenes_are_found_by_data_set(tmp_path):
    for place in ("indoor/one", "indoor/two", "outdoor/three"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "transforms_train.json").write_text(json.dumps({"frames": []}))
    found = paper.scenes_of(tmp_path)
    assert {name: [scene.name for scene in scenes] for name, scenes in found.items()} == {
        "indoor": ["one", "two"],
        "outdoor": ["three"],
    }
    with pytest.raises(SystemExit, match="no scene in the processed layout"):
        paper.scenes_of(tmp_path / "indoor" / "one")


def test_an_exact_reconstruction_is_exact(tmp_path):
    scene = make_scene(SceneSpec(seed=3, n_movers=1, n_frames=5, width=96, height=72, candidates=1))
    truth = scene.write(tmp_path)
    sfm = true_sfm(truth)
    assert (
        len({round(pose_error(m.cam_from_obj, t).scale, 6) for m, t in zip(sfm.objects, truth.cam_from_obj(), strict=True)})
        == 2
    )
    for model, true in zip(sfm.objects, truth.cam_from_obj(), strict=True):
        error = pose_error(model.cam_from_obj, true)
        assert error.rotation_deg == pytest.approx(0, abs=1e-5) and error.position == pytest.approx(0, abs=1e-9)
        assert len(model.points) >= 100 and np.bincount(model.obs_point).max() >= 3
        cam_from_obj = model.cam_from_obj[model.obs_frame]
        in_camera = transform(cam_from_obj, model.points[model.obs_point][:, None])[:, 0]
        np.testing.assert_allclose(project(sfm.intrinsics, in_camera), model.obs_xy_px, atol=1e-6)
        column, row = model.obs_xy_px.astype(int).T
        assert (truth.segm_train[model.obs_frame, row, column] == model.object_id).all()
