"""The chain, with stages that only count how often they run."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import runner
from pipelines.config import build
from pipelines.export import FORMATS
from pipelines.reporting.findings import coherent_stages
from pipelines.runner import CHAIN, STAGES, Run
from pipelines.store import Workspace
from pipelines.train import Preset


@pytest.fixture
def ran(monkeypatch) -> Counter:
    """How often each stage ran; what it makes is a file with its options and the content of its inputs."""
    counter: Counter = Counter()

    def fake(stage):
        def run(inputs, context):
            counter[stage.name] += 1
            above = [(inputs.workspace.place(needed) / "result").read_text() for needed in stage.needs(inputs.config)]
            content = [str(stage.options(inputs.config)), *above]
            (context.out / "result").write_text("\n".join(content))

        return run

    fakes = {name: replace(stage, run=fake(stage)) for name, stage in STAGES.items()}
    monkeypatch.setattr(runner, "STAGES", fakes)
    return counter


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"first")
    return path


@pytest.fixture
def make(tmp_path: Path, source: Path):
    def run(choices=None, **options) -> Run:
        workspace = Workspace(tmp_path / "osn-work")
        workspace.create()
        return Run(workspace, build(Preset.FAST, choices or {}), source, **options)

    return run


def test_the_second_run_does_nothing(make, ran):
    make().ensure(CHAIN)
    assert ran == dict.fromkeys(CHAIN, 1)
    make().ensure(CHAIN)
    assert ran == dict.fromkeys(CHAIN, 1)


def test_one_byte_of_the_video_reruns_everything(make, ran, source):
    make().ensure(CHAIN)
    source.write_bytes(b"f1rst")
    make({"frames": {"max_frames": 50}}).ensure(CHAIN)
    assert ran["frames"] == 2


def test_an_option_reruns_only_what_depends_on_it(make, ran):
    make().ensure(CHAIN)
    run = make({"train": {"steps": 17}})
    plan = {stage.name: verdict for stage, verdict in run.plan(CHAIN)}
    assert [name for name, verdict in plan.items() if not verdict.hit] == ["train", "sample"]
    assert "option train.steps changed from" in plan["train"].reason
    assert plan["sample"].reason == "if the new train differs from the old"
    run.ensure(CHAIN)
    assert ran == {**dict.fromkeys(CHAIN, 1), "train": 2, "sample": 2}


def test_an_equal_result_stops_the_rerun(make, ran):
    make().ensure(CHAIN)
    make(forced=frozenset({"frames"})).ensure(CHAIN)
    assert ran == {**dict.fromkeys(CHAIN, 1), "frames": 2}


def test_a_damaged_result_is_made_again(make, ran):
    run = make()
    places = run.ensure(CHAIN)
    (places["tracks"] / "result").write_text("x")
    run.ensure(CHAIN)
    assert ran == {**dict.fromkeys(CHAIN, 1), "tracks": 2}


def test_masks_need_no_flow_and_are_watched(make, ran, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "0.png").write_bytes(b"a")
    choices = {"segment": {"method": "masks", "masks": str(masks)}}
    make(choices).ensure(["segment"])
    assert ran == {"frames": 1, "segment": 1}
    (masks / "0.png").write_bytes(b"bb")
    assert [v.reason for s, v in make(choices).plan(["segment"]) if s.name == "segment"] == ["input segment.masks changed"]


def test_a_video_that_is_gone_does_not_hurt_what_is_done(make, ran, source):
    make().ensure(["frames"])
    source.unlink()
    make().ensure(["flow"])
    assert ran == {"frames": 1, "flow": 1}


@pytest.mark.parametrize(
    ("option", "again"),
    [
        ({"meshing": {"max_faces": 100}}, {"mesh", "glb", "usd"}),
        ({"mesh_format": "obj"}, {"mesh"}),
        ({"sample": "3"}, {"glb", "usd", "depth"}),
        ({"unlit": False}, {"mesh", "glb", "usd"}),
        ({"metric": "object 1 height = 1 m"}, {"mesh", "glb", "usd", "depth"}),
        ({"metric": "object 1 height = 1 m", "sample": "3"}, {"mesh", "glb", "usd", "depth"}),
    ],
)
def test_an_option_touches_only_the_exports_that_read_it(make, ran, option, again):
    changed = set()
    for name in FORMATS:
        make({"export": {name: True}}).ensure(["export"])
        before = ran["export"]
        make({"export": {name: True, **option}}).ensure(["export"])
        changed |= {name} if ran["export"] > before else set()
    assert changed == again


def test_exports_live_side_by_side(make, ran):
    first = make({"export": {"mesh": True}}).ensure(["export"])["export"]
    second = make({"export": {"glb": True}}).ensure(["export"])["export"]
    assert first != second
    make({"export": {"mesh": True}}).ensure(["export"])
    assert ran["export"] == 2


@pytest.mark.parametrize(
    ("export", "needs"),
    [
        ({"colmap": True, "points": True, "masks": True}, set()),
        ({"mesh": True}, {"train"}),
        ({"nerfstudio": True, "sample": "3"}, {"train"}),
        ({"mesh": True, "metric": "object 1 height = 1 m"}, {"train", "sample"}),
        ({"glb": True}, {"train", "sample"}),
        ({"glb": True, "sample": "scales:1,2"}, {"train"}),
        ({}, {"train", "sample"}),
    ],
)
def test_exports_ask_only_for_what_they_show(make, export, needs):
    closure = {stage.name for stage in make({"export": export}).closure(["export"])}
    assert closure - {"frames", "flow", "segment", "tracks", "sfm", "export"} == needs


def test_scenes_of_ones_own_are_rendered_without_samples(make):
    assert "sample" in {stage.name for stage in make().closure(["render"])}
    assert "sample" not in {stage.name for stage in make({"render": {"samples": "scales:1"}}).closure(["render"])}


@pytest.mark.parametrize("name", ["flight.json", "flight.JSON", "flight.txt", "flight"])
def test_a_camera_path_of_any_name_is_watched(make, ran, tmp_path, name):
    path = tmp_path / name
    for content, times in (("[1]", 1), ("[1]", 1), ("[2]", 2)):
        path.write_text(content)
        make({"render": {"path": str(path)}}).ensure(["render"])
        assert ran["render"] == times


def test_a_report_leaves_out_what_was_made_from_other_results(make, ran):
    """Masks were made again, the rest was not."""
    make().ensure(CHAIN)
    workspace = make().workspace
    assert coherent_stages(workspace) == set(CHAIN)
    make({"segment": {"objects": 3}}).ensure(["segment"])
    assert coherent_stages(workspace) == {"frames", "flow", "segment"}


def test_the_observer_hears_what_happens(make, ran):
    heard = []

    class Observer:
        def reused(self, stage):
            heard.append(("reused", stage))

        def started(self, stage, reason):
            heard.append(("started", stage, reason))

        def finished(self, stage, wall_s):
            heard.append(("finished", stage))

    make().ensure(["frames"])
    make().ensure(["flow"], observer=Observer())
    assert heard == [("reused", "frames"), ("started", "flow", "not made yet"), ("finished", "flow")]


def test_only_objects_that_were_found_are_joined():
    def joins(settings: dict) -> bool | None:
        return runner._sfm_options(build(Preset.FAST, settings)).correct_masks

    assert joins({}) is True
    assert joins({"segment": {"method": "masks", "masks": "somewhere"}}) is False
    assert joins({"segment": {"prompts": "clicks.json"}}) is False
    assert joins({"segment": {"method": "masks", "masks": "somewhere"}, "sfm": {"correct_masks": True}}) is True
