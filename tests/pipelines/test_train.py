"""The train stage on a small room with two moving objects, whose poses and points are exact but in arbitrary units."""

import dataclasses
import json
import os
import signal
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from pipelines.artifacts import Labels, ObjectModel, Sfm, SfmStatus
from pipelines.errors import InputError, ReconstructionError, UsageError
from pipelines.geometry import invert, pixel_centres, project, ray_directions, transform
from pipelines.scene import marching, object_step
from pipelines.scene import trainer as training
from pipelines.scene.lazy_adam import LazyAdam
from pipelines.scene.scene import Scene
from pipelines.scene.schedule import Phase, Schedule
from pipelines.stage import ItemCache, StageContext
from pipelines.train import PRESETS, TrainConfig, train

UNITS = np.array([1.0, 0.5, 2.0])
"""True length of each object's own unit."""

TINY = {
    "max_side_px": 64,
    "steps": 12,
    "rays_per_step": 64,
    "n_bins": 16,
    "n_samples": 8,
    "resolution_start": 16,
    "resolution_final": 32,
    "upsample_at": (0.25, 0.5),
    "table_bits": 10,
    "colour_levels": 3,
    "colour_resolution": 32,
    "hidden": 16,
    "cache_resolution": 16,
    "rounds": 2,
    "refine_poses_from": 0.5,
    "evidence_width_px": 32,
    "evidence_frames": 4,
    "combinations": 64,
    "scale_steps": 5,
    "preview_every_steps": 0,
    "log_every_steps": 4,
    "checkpoint_every_steps": 5,
}


def context(folder) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext(folder, ItemCache(folder / "items"))


def model_of(scene, column: int, object_id: int, unit: float) -> ObjectModel:
    """Points on an object's surface, observed without error wherever they are seen."""
    maps = scene.alone_maps(width=scene.width, frames=range(scene.n_frames))
    cam_from_obj = scene.cam_from_obj[column].copy()
    cam_from_obj[:, :3, 3] /= unit
    random = np.random.default_rng(column)
    t, y, x = np.nonzero(maps.column == column)
    chosen = random.choice(len(t), 400)
    t, y, x = t[chosen], y[chosen], x[chosen]
    directions = ray_directions(scene.intrinsics, pixel_centres(scene.width, scene.height)[y, x])
    points_cam = directions * maps.depth[t, column, y, x, None] / unit
    points = transform(invert(cam_from_obj)[t], points_cam[:, None])[:, 0]
    point, frame, xy_px = [], [], []
    for u in range(scene.n_frames):
        in_cam = transform(cam_from_obj[u], points)
        xy = project(scene.intrinsics, in_cam)
        i, j = np.clip(xy.astype(int), 0, [scene.width - 1, scene.height - 1]).T
        seen = (maps.column[u, j, i] == column) & (np.abs(maps.depth[u, column, j, i] / unit - in_cam[:, 2]) < 0.02)
        point.append(np.flatnonzero(seen))
        frame.append(np.full(seen.sum(), u))
        xy_px.append(xy[seen])
    return ObjectModel(
        object_id=object_id,
        status=SfmStatus.OK,
        reason="",
        registered=np.ones(scene.n_frames, bool),
        cam_from_obj=cam_from_obj,
        points=points,
        point_error_px=np.full(len(points), 0.2),
        point_rgb=np.zeros((len(points), 3), np.uint8),
        obs_point=np.concatenate(point),
        obs_frame=np.concatenate(frame),
        obs_xy_px=np.concatenate(xy_px),
    )


@pytest.fixture(scope="module")
def toy_sfm(toy_scene) -> Sfm:
    """Object 2 failed, so that labels and columns differ."""
    good = {label: model_of(toy_scene, k, label, UNITS[k]) for k, label in enumerate(toy_scene.object_ids)}
    lost = ObjectModel.failed(2, SfmStatus.NO_TRACKS, "no tracks", toy_scene.n_frames)
    models = tuple(good.get(label, lost) for label in range(4))
    return Sfm(toy_scene.intrinsics, toy_scene.width, toy_scene.height, models)


def parameters(scene: Scene) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in scene.model.state_dict().items()}


@pytest.mark.parametrize("stop_at", [3, 6, 8])
def test_an_interrupted_run_ends_where_an_unbroken_one_ends(
    stop_at, toy_video, toy_labels, toy_sfm, tmp_path, monkeypatch
) -> None:
    """Steps 3 and 6 make the fields finer; 3 is also the first round of the scales."""
    torch.set_num_threads(1)
    config = TrainConfig(**(TINY | {"checkpoint_every_steps": stop_at}))
    inputs = {"video": toy_video, "labels": toy_labels, "sfm": toy_sfm}
    unbroken = train(config, **inputs, context=context(tmp_path / "unbroken"))

    step_of_trainer = training.Trainer._field_step

    def killed(self):
        if self.step == stop_at + 1:
            raise KeyboardInterrupt
        return step_of_trainer(self)

    with monkeypatch.context() as patched:
        patched.setattr(training.Trainer, "_field_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, **inputs, context=context(tmp_path / "resumed"))
    steps = []
    monkeypatch.setattr(training.Trainer, "_field_step", lambda self: steps.append(self.step) or step_of_trainer(self))
    resumed = train(config, **inputs, context=context(tmp_path / "resumed"))

    assert steps == list(range(stop_at, 12))
    expected = parameters(unbroken)
    for name, value in parameters(resumed).items():
        assert torch.equal(value, expected[name]), name
    assert unbroken.zone is not None
    assert resumed.zone is not None
    np.testing.assert_array_equal(resumed.zone.bounds, unbroken.zone.bounds)
    assert not (tmp_path / "resumed" / "checkpoint.pt").exists()


@pytest.mark.parametrize("last, asked_by", [(4, signal.SIGINT), (11, signal.SIGINT), (4, signal.SIGTERM)])
def test_an_interrupt_loses_no_step(last, asked_by, toy_video, toy_labels, toy_sfm, tmp_path, monkeypatch) -> None:
    """The step under way is finished and saved, whenever the next checkpoint would be due; then the same command goes on."""
    config = TrainConfig(**(TINY | {"checkpoint_every_steps": 1000}))
    inputs = {"video": toy_video, "labels": toy_labels, "sfm": toy_sfm}
    step_of_trainer = training.Trainer._field_step
    steps = []

    def interrupted_once(self):
        steps.append(self.step)
        if steps == list(range(last + 1)):
            os.kill(os.getpid(), asked_by)
        return step_of_trainer(self)

    monkeypatch.setattr(training.Trainer, "_field_step", interrupted_once)
    handler = signal.getsignal(asked_by)
    with pytest.raises(KeyboardInterrupt):
        train(config, **inputs, context=context(tmp_path))
    assert signal.getsignal(asked_by) is handler
    assert steps == list(range(last + 1))
    train(config, **inputs, context=context(tmp_path))
    assert steps == list(range(12))


def test_steps_that_compute_every_ray_stay_finite(toy_video, toy_labels, toy_sfm, tmp_path, monkeypatch) -> None:
    """As on a GPU, in both phases: rays that miss an object, and frames in which it has no pose."""
    monkeypatch.setattr(marching, "chosen_rows", lambda mask: torch.arange(len(mask)))
    movers = [
        dataclasses.replace(model, registered=model.registered & (np.arange(len(model.registered)) > 1))
        for model in toy_sfm.objects
    ]
    sfm = dataclasses.replace(toy_sfm, objects=(toy_sfm.objects[0], *movers[1:]))
    trainer = training.Trainer.prepare(TrainConfig(**TINY), toy_video, toy_labels, sfm, context(tmp_path))
    for step in range(5):
        trainer._before_step()
        terms = trainer._field_step()
        assert all(torch.isfinite(term) for term in terms.values()), step
        trainer.step += 1
    assert trainer._combinations is not None
    assert all(torch.isfinite(parameter).all() for parameter in trainer.scene.model.parameters())


def trained_for(n: int, *inputs, out) -> training.Trainer:
    """After n steps, of which some alternate, and some refine poses."""
    trainer = training.Trainer.prepare(TrainConfig(**TINY, pose_rate=5e-4), *inputs, context(out))
    for _ in range(n):
        trainer._before_step()
        trainer._field_step()
        trainer.step += 1
    assert trainer._combinations is not None
    return trainer


def test_the_number_of_threads_changes_nothing(toy_video, toy_labels, toy_sfm, tmp_path, monkeypatch) -> None:
    inputs = (toy_video, toy_labels, toy_sfm)
    monkeypatch.setattr(object_step, "n_cores", lambda: 3)
    threaded = parameters(trained_for(6, *inputs, out=tmp_path / "three").scene)
    monkeypatch.setattr(object_step, "n_cores", lambda: 1)
    alone = parameters(trained_for(6, *inputs, out=tmp_path / "one").scene)
    assert all(torch.equal(value, alone[name]) for name, value in threaded.items())


def test_gradients_cross_the_cut_between_objects(toy_video, toy_labels, toy_sfm, tmp_path, monkeypatch) -> None:
    """The two halves of a step have the gradients of the whole graph."""
    inputs = (toy_video, toy_labels, toy_sfm)
    halves, whole = (trained_for(7, *inputs, out=tmp_path / name) for name in ("halves", "whole"))
    # Gradients stay where they are.
    for kind in (LazyAdam, torch.optim.Adam):
        monkeypatch.setattr(kind, "step", lambda optimiser: None)
        monkeypatch.setattr(kind, "zero_grad", lambda optimiser, set_to_none=True: None)
    halves._field_step()

    def of_its_own(part: object_step.ObjectSamples, weights: Mapping[str, float]) -> None:
        for name, term in part.terms.items():
            (weights[name] * term).backward()

    monkeypatch.setattr(object_step, "cut", lambda marched: marched)
    monkeypatch.setattr(object_step.ObjectSamples, "backward", of_its_own)
    whole._field_step()
    expected = dict(whole.scene.model.named_parameters())
    for name, parameter in halves.scene.model.named_parameters():
        assert parameter.grad is not None and expected[name].grad is not None, name
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-3, atol=1e-7, msg=name)


def test_rays_are_shared_out_whatever_is_asked() -> None:
    for total, n_movers, share in ((16, 9, 1.0), (1024, 3, 0.5), (7, 0, 0.5)):
        shares = training._shares(total, n_movers, share)
        assert sum(shares) == total and min(shares) >= 0 and len(shares) == n_movers + 1


def test_a_checkpoint_of_another_configuration_is_ignored(toy_video, toy_labels, toy_sfm, tmp_path, monkeypatch) -> None:
    config = TrainConfig(**(TINY | {"rounds": 0}))
    made = training.Trainer.prepare(config, toy_video, toy_labels, toy_sfm, context(tmp_path))
    made.step = 7
    made.save_checkpoint()
    again = training.Trainer.prepare(config, toy_video, toy_labels, toy_sfm, context(tmp_path))
    again.resume()
    other = training.Trainer.prepare(config.model_copy(update={"seed": 1}), toy_video, toy_labels, toy_sfm, context(tmp_path))
    other.resume()
    assert (again.step, other.step) == (7, 0)


def test_a_saved_scene_renders_the_same_after_loading(toy_video, toy_labels, toy_sfm, tmp_path) -> None:
    config = TrainConfig(**(TINY | {"preview_every_steps": 6}))
    scene = train(config, video=toy_video, labels=toy_labels, sfm=toy_sfm, context=context(tmp_path))
    loaded = Scene.load(tmp_path)
    scale = np.array([1.0, 0.5, 2.0])
    before, after = (one.render(t=3, scale=scale, width=32, height=24) for one in (scene, loaded))
    for name in ("rgb", "depth", "label", "opacity"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert loaded.object_ids == (0, 1, 3)
    assert loaded.names == ("background", "ball", "box")
    assert set(np.unique(after.label)) <= {0, 1, 3, 255}
    np.testing.assert_array_equal(loaded.cam_from_obj, scene.cam_from_obj)
    np.testing.assert_array_equal(loaded.boxes, scene.boxes)
    assert (tmp_path / "previews" / "step_000006.png").is_file()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "total" in row] == [4, 8, 12]
    assert [row["step"] for row in rows if "round" in row] == [3, 6, 12]


FINER = {
    "max_side_px": 128,
    "resolution_final": 64,
    "mover_resolution_ratio": 1.0,
    "colour_resolution": 128,
    "table_bits": 14,
}
"""Fields fine enough for silhouettes that the order of objects can be read from."""


@pytest.mark.slow
@pytest.mark.parametrize(("field", "finer", "least_psnr_db"), [("grid", FINER, 20), ("tensorf", {}, 17)])
def test_training_finds_colours_depths_and_scales(
    field, finer, least_psnr_db, toy_scene, toy_video, toy_labels, toy_sfm, tmp_path
) -> None:
    """A smooth scene needs few steps: PSNR, depth to a few percent, and the true scales inside the zone."""
    more = {"steps": 250, "rays_per_step": 512, "n_samples": 16, "n_bins": 48, "colour_levels": 5, "table_bits": 12}
    more |= {
        "scale_steps": 300,
        "cache_resolution": 32,
        "preview_every_steps": 0,
        "checkpoint_every_steps": 1000,
        "evidence_width_px": 64,
    }
    config = TrainConfig(**(TINY | more | {"field": field, "density_components": 3, "colour_components": 4} | finer))
    scene = train(config, video=toy_video, labels=toy_labels, sfm=toy_sfm, context=context(tmp_path))
    truth = toy_scene.render(t=4, scale=np.ones(3), width=64, height=48)
    view = scene.render(t=4, scale=UNITS / UNITS[0], width=64, height=48)
    assert -10 * np.log10(np.mean((view.rgb - truth.rgb) ** 2)) > least_psnr_db
    if field == "tensorf":
        return  # Its factors need many more steps before surfaces are sharp.
    assert np.median(np.abs(view.depth / truth.depth - 1)) < 0.06
    assert np.mean(view.label == truth.label) > 0.95
    assert scene.zone is not None
    assert bool(scene.zone.contains(np.log(UNITS / UNITS[0])[None])[0])


def test_a_step_reads_as_many_pixels_whatever_the_length_of_the_video(toy_video, toy_labels, toy_sfm, tmp_path) -> None:
    made = training.Trainer.prepare(TrainConfig(**TINY), toy_video, toy_labels, toy_sfm, context(tmp_path))
    made.generator.manual_seed(0)
    batch = made.pixels.batch(*made._draws(), made.generator)
    assert len(batch.frame) == TINY["rays_per_step"]
    assert made.pixels.rgb.dtype == torch.uint8


def test_unknown_pixels_and_failed_objects_are_never_drawn(toy_video, toy_labels, toy_sfm, tmp_path) -> None:
    maps = toy_labels.maps.copy()
    maps[:, :, :64][maps[:, :, :64] == 0] = 2
    maps[:, :20] = 255
    made = training.Trainer.prepare(
        TrainConfig(**(TINY | {"max_side_px": 128})), toy_video, Labels(maps, toy_labels.names), toy_sfm, context(tmp_path)
    )
    batch = made.pixels.batch([500, 100, 100], [0, 0, 0], made.generator)
    assert set(batch.column.tolist()) == {0, 1, 2}
    background = batch.xy_px[batch.column == 0]
    assert float(background[:, 0].min()) >= 64
    assert float(batch.xy_px[:, 1].min()) >= 20


def test_an_object_without_a_pose_is_left_out_of_that_frame(toy_video, toy_labels, toy_sfm, tmp_path) -> None:
    registered = np.ones(toy_video.n_frames, bool)
    registered[2:5] = False
    objects = list(toy_sfm.objects)
    objects[1] = dataclasses.replace(objects[1], registered=registered)
    sfm = dataclasses.replace(toy_sfm, objects=tuple(objects))
    made = training.Trainer.prepare(TrainConfig(**TINY), toy_video, toy_labels, sfm, context(tmp_path))
    batch = made.pixels.batch([0, 300, 0], [0, 50, 0], made.generator)
    assert not set(batch.frame.tolist()) & {2, 3, 4}
    assert not set(np.unique(made.scene.render(t=3, scale=np.ones(3), width=16, height=12).label)) & {1}


def test_the_plan_of_a_run() -> None:
    schedule = Schedule(TrainConfig(steps=100, rounds=4, upsample_at=(0.1, 0.2), resolution_start=16, resolution_final=64))
    assert schedule.round_steps == [25, 38, 50, 62]
    assert [schedule.resolution(step) for step in (0, 9, 10, 19, 20, 99)] == [16, 16, 32, 32, 64, 64]
    assert [schedule.phase(step) for step in (0, 24, 25, 74, 75)] == [
        Phase.BOOTSTRAP,
        Phase.BOOTSTRAP,
        Phase.ALTERNATE,
        Phase.ALTERNATE,
        Phase.FINISH,
    ]
    assert schedule.rate(0) == 1
    assert schedule.rate(100) == pytest.approx(0.1)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_is_valid(name) -> None:
    assert TrainConfig.preset(name, seed=3).seed == 3


def test_mistakes_are_explained(toy_video, toy_labels, toy_sfm, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"no preset .quick."):
        TrainConfig.preset("quick")
    with pytest.raises(ValueError, match="add up to more than 1"):
        TrainConfig(bootstrap_share=0.6, alternate_share=0.6)
    with pytest.raises(InputError, match="run `segment` again"):
        train(
            TrainConfig(**TINY),
            video=toy_video,
            labels=Labels(toy_labels.maps[:3], toy_labels.names),
            sfm=toy_sfm,
            context=context(tmp_path),
        )
    failed = ObjectModel.failed(0, SfmStatus.NOT_REGISTERED, "2 of 8 frames", toy_video.n_frames)
    with pytest.raises(ReconstructionError, match=r"not reconstructed \(2 of 8 frames\)"):
        train(
            TrainConfig(**TINY),
            video=toy_video,
            labels=toy_labels,
            sfm=dataclasses.replace(toy_sfm, objects=(failed, *toy_sfm.objects[1:])),
            context=context(tmp_path),
        )
