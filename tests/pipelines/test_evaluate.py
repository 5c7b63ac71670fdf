"""The evaluation of a perfect scene must be perfect, and every shortcoming must show where it belongs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts import Labels, Samples, SfmStatus, Video
from pipelines.errors import InputError
from pipelines.evaluate import EvaluateConfig, evaluate
from pipelines.evaluation import report
from pipelines.evaluation.layouts import load_truth
from pipelines.evaluation.valid_set import is_valid, telling_rays, true_agreement
from pipelines.ground_truth import GroundTruth
from pipelines.meshing.mesh import Mesh
from pipelines.scene.evidence import evidence_from_maps
from pipelines.scene.orders import order_tests
from pipelines.scene.zone import zone_at_share
from pipelines.stage import ItemCache, StageContext
from pipelines.synthetic import SceneSpec, make_scene
from pipelines.synthetic.oracle import OracleScene

CONFIG = EvaluateConfig(n_views=2, screening_width_px=32, combinations=600, max_rays=20_000)
QUICK = CONFIG.model_copy(update={"closest": 1, "lucky": 0, "baselines": False, "n_views": 1})


class Case:
    """A perfect reconstruction of a small scene on disk."""

    def __init__(self, folder: Path) -> None:
        self.synthetic = make_scene(SceneSpec(seed=3, n_movers=2, n_frames=6, width=96, height=72, candidates=1))
        self.synthetic.write(folder)
        self.truth = load_truth(folder)
        plain = OracleScene(self.synthetic, np.array([2.0, 0.5, 3.0]))
        maps = plain.alone_maps(width=96, frames=range(6))
        evidence = evidence_from_maps(maps, full_width=96)
        self.scene = replace(plain, zone=zone_at_share(order_tests(evidence), plain.log_scale_range, 0.005))

    def samples(self, n: int = 60) -> Samples:
        log_scale = self.scene.zone.sample(n, np.random.default_rng(0))
        return Samples(log_scale, np.ones(n), np.arange(3))


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return Case(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def tables(case, tmp_path_factory) -> dict:
    """Of the perfect scene with sixty samples."""
    return run(case, tmp_path_factory.mktemp("eval"), CONFIG)


def run(case: Case, out: Path, config: EvaluateConfig = QUICK, **changes) -> dict:
    inputs = {
        "scene": case.scene,
        "samples": case.samples(),
        "sfm": case.scene.sfm(),
        "labels": case.scene.labels(),
        "truth": case.truth,
    }
    return evaluate(config, **(inputs | changes), context=StageContext(out, ItemCache(out / "items")))


def row(tables: dict, name: str) -> dict:
    return next(row for row in tables["novel_views"] if row["scales"].startswith(name))


def test_true_scales_render_the_truth(case, tmp_path):
    exact = Samples(case.scene.true_log_scale[None], np.ones(1), np.arange(3))
    best = row(run(case, tmp_path, samples=exact), "best of 1")
    assert best["psnr_db"] > 45  # the truth is rounded to eight bits
    assert best["ssim"] > 0.995
    assert best["ssimae"] == pytest.approx(0, abs=5e-3)  # the truth's depth is stored in half precision
    assert best["miou"] > 0.995 and best["pq"] > 0.995
    assert best["log_distance"] == pytest.approx(0, abs=1e-6)


def test_best_of_many_beats_the_single_solutions(tables):
    best = row(tables, "best of 60")
    # Each single solution may be lucky on one scene, but not better in the image than the best of many.
    assert best["log_distance"] < row(tables, "ones")["log_distance"]
    assert best["psnr_db"] > max(row(tables, name)["psnr_db"] for name in ("ones", "zone centre")) - 0.5
    assert best["lpips"] is None or best["lpips"] >= 0


def test_without_true_motions_the_best_is_sought_by_its_views(case, tmp_path):
    """Most public data sets know no object's motion: no sample is nearest to a truth that is not known."""
    silent = replace(case.truth, world_from_object=None, segm_train=None)
    config = CONFIG.model_copy(update={"explored": 6, "closest": 3, "lucky": 0, "baselines": False, "meshes": False})
    found = run(case, tmp_path, config, truth=silent)
    assert row(found, "best of 60")["log_distance"] is None
    assert any("no distance to the true scales" in note["note"] for note in found["notes"])
    rendered = found["candidates"]
    assert [each["sample"] for each in rendered[:6]] == list(range(6)) and len(rendered) == 9
    assert len({each["sample"] for each in rendered if each["best"]}) == 1
    chosen = next(each for each in rendered if each["best"])
    assert chosen["psnr_db"] >= np.median([each["psnr_db"] for each in rendered])
    assert not (tmp_path / "candidates.svg").exists()


def test_the_tables_are_written_and_drawn(case, tmp_path):
    written = run(case, tmp_path, QUICK.model_copy(update={"closest": 2}))
    assert json.loads((tmp_path / "eval.json").read_text()) == written
    drawn = ElementTree.parse(tmp_path / "novel_views.svg").getroot()
    shown = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"PSNR, dB", "mIoU", "best of 60", f"{written['novel_views'][0]['psnr_db']:.3g}"} <= set(shown)
    dots = ElementTree.parse(tmp_path / "candidates.svg").getroot().iter("{http://www.w3.org/2000/svg}circle")
    classes = [dot.get("class") for dot in dots]
    assert len(classes) == len(written["candidates"]) == 2
    assert [name == "best" for name in classes] == [each["best"] for each in written["candidates"]]
    with Image.open(tmp_path / "novel_views.png") as picture:
        assert picture.size == (5 * 96, 72)
    assert not (tmp_path / "multi_truth.svg").exists()


def test_many_truths_are_asked_for(case, tmp_path):
    config = QUICK.model_copy(update={"truths": 3, "baselines": True, "width_px": 48})
    rows = run(case, tmp_path, config)["multi_truth"]
    psnr_db = {row["scales"]: row for row in rows if row["measure"] == "psnr_db"}
    assert set(psnr_db) == {"best of 60", "ones", "zone centre", "contact"}
    assert psnr_db["best of 60"]["mean"] > max(row["mean"] for name, row in psnr_db.items() if name != "best of 60") - 0.5
    assert all(row["truths"] == 3 and row["deviation"] > 0 for row in psnr_db.values())
    drawn = ElementTree.parse(tmp_path / "multi_truth.svg").getroot()
    assert len([e for e in drawn.iter("{http://www.w3.org/2000/svg}line") if e.get("class") == "whisker"]) >= 4


def test_a_truth_that_shows_one_scene_only_is_noted(case, tmp_path):
    folder = tmp_path / "truth"
    shutil.copytree(case.truth.folder, folder)
    (folder / "scene.json").unlink()
    tables = run(case, tmp_path, QUICK.model_copy(update={"truths": 3}), truth=load_truth(folder))
    assert tables["multi_truth"] == []
    assert any("scene.json" in note["note"] for note in tables["notes"])


def test_missing_views_leave_the_rest(case, tmp_path):
    folder = tmp_path / "truth"
    shutil.copytree(case.truth.folder, folder)
    shutil.rmtree(folder / "images_test")
    tables = run(case, tmp_path, truth=load_truth(folder))
    assert tables["novel_views"] == [] and tables["valid_set"][0]["iou"] > 0.8
    assert any("images_test" in note["note"] for note in tables["notes"])


def test_meshes_are_compared_in_true_units(case, tmp_path, monkeypatch):
    """True surfaces in each object's own unit; only that of object 1 is moved by a tenth of its size."""
    pairs = zip(case.synthetic.meshes, case.scene.unit, strict=True)
    meshes = [Mesh.build(np.asarray(mesh.vertices) / unit, np.asarray(mesh.faces)) for mesh, unit in pairs]
    size = np.linalg.norm(np.ptp(meshes[1].vertices, axis=0))
    meshes[1] = Mesh.build(meshes[1].vertices + np.array([0.1 * size, 0, 0]), meshes[1].faces)
    monkeypatch.setattr(report, "scene_meshes", lambda *args, **inputs: meshes)
    video = Video(tmp_path, 96, 72, 6, 12.0, "film")
    rows = run(case, tmp_path, video=video)["meshes"]
    recall = [row["recall"] for row in rows]
    assert recall[0] > 0.98 and recall[2] > 0.98 and recall[1] < 0.6
    # What the camera never saw counts against the complete surface.
    assert rows[2]["precision"] < 0.95
    assert (tmp_path / "meshes.svg").exists()


def test_the_exact_zone_is_nearly_the_true_valid_set(case, tables):
    zone, drawn = tables["valid_set"]
    assert zone["set"] == "zone" and drawn["set"] == "samples"
    # Samples are those that the zone would draw: no surer to be valid than it is.
    assert 0.7 < drawn["precision"] <= 1
    assert zone["iou"] > 0.8 and zone["precision"] > 0.8 and zone["recall"] > 0.9
    rays = telling_rays(case.truth)
    assert is_valid(true_agreement(rays.depth_alone, rays.labels, np.ones((1, 3))))[0]


def test_perfect_motion_has_no_error(tables):
    for object_row in tables["objects"]:
        assert object_row["rotation_deg"] == pytest.approx(0, abs=1e-5)
        assert object_row["position_percent"] == pytest.approx(0, abs=1e-6)
        assert object_row["frames"] == object_row["of"] == 6


def test_the_order_of_labels_does_not_matter(case, tmp_path):
    """A segmenter numbers objects as it likes; here 1 and 2 are swapped."""
    swapped = case.synthetic.segm_train.copy()
    swapped[case.synthetic.segm_train == 1], swapped[case.synthetic.segm_train == 2] = 2, 1

    class Swapped(OracleScene):
        @property
        def object_ids(self):
            return (0, 2, 1)

        def render(self, **view):
            rendered = super().render(**view)
            return replace(rendered, label=np.array([0, 2, 1, *range(3, 256)], np.uint8)[rendered.label])

    scene = Swapped(case.synthetic, case.scene.unit, case.scene.zone)
    labels = Labels(swapped, ("background", "b", "a"))
    assert row(run(case, tmp_path, scene=scene, labels=labels), "best")["miou"] == pytest.approx(
        row(run(case, tmp_path), "best")["miou"]
    )


def test_a_depth_prior_finds_the_true_scales(case, tmp_path):
    folder = tmp_path / "prior"
    folder.mkdir()
    for t in range(6):
        np.save(folder / f"{t:06d}.npy", 7.3 * case.synthetic.depth_train[t])
    tables = run(case, tmp_path, QUICK.model_copy(update={"depth_prior": folder, "baselines": True}))
    assert row(tables, "depth prior")["log_distance"] < 0.01


def test_an_object_that_is_missing_is_noted(case, tmp_path):
    labels = Labels(np.where(case.synthetic.segm_train == 2, 255, case.synthetic.segm_train).astype(np.uint8), ("b", "a"))
    tables = run(case, tmp_path, labels=labels)
    assert any("no counterpart" in note["note"] and "[2]" in note["note"] for note in tables["notes"])


def test_an_assumed_background_is_not_compared(case, tmp_path):
    sfm = case.scene.sfm()
    background = replace(sfm.objects[0], status=SfmStatus.ASSUMED_DEPTH)
    tables = run(case, tmp_path, sfm=replace(sfm, objects=(background, *sfm.objects[1:])))
    assert "novel_views" not in tables
    assert "assumed" in tables["notes"][0]["note"]


def test_truth_of_another_video_is_refused(case, tmp_path):
    per_frame = ("cam_from_world_train", "world_from_object", "depth_train", "segm_train", "depth_alone")
    fewer = replace(case.truth, **{name: getattr(case.truth, name)[:4] for name in per_frame})
    with pytest.raises(InputError, match="4 frames and the scene 6"):
        run(case, tmp_path, truth=fewer)


def test_covisibility_masks_leave_something_to_judge(case, tmp_path):
    best = row(run(case, tmp_path, QUICK.model_copy(update={"covisible": True})), "best")
    assert best["psnr_db"] is not None


def test_a_folder_without_truth_is_refused(tmp_path):
    with pytest.raises(InputError, match="no ground truth that osn can read"):
        load_truth(tmp_path)


def test_our_own_layout_is_recognised(case):
    assert isinstance(case.truth, GroundTruth) and case.truth.n_objects == 3
