"""Findings about the toy scene."""

import pytest

from pipelines.artifacts import ObjectModel, Sfm, SfmStatus
from pipelines.progress import Silent
from pipelines.reporting.findings import Findings, StageRecord
from pipelines.segmentation.overlay import write_overlay
from pipelines.stage import ItemCache, StageContext


@pytest.fixture(scope="session")
def toy_sfm(toy_scene) -> Sfm:
    """Objects 0, 1 and 3 as in the toy scene; object 2 failed."""
    models = []
    for label in range(4):
        if label == 2:
            reason = "41 tracks <too few> & short"
            models.append(ObjectModel.failed(label, SfmStatus.NOT_REGISTERED, reason, toy_scene.n_frames))
            continue
        column = toy_scene.object_ids.index(label)
        failed = ObjectModel.failed(label, SfmStatus.OK, "", toy_scene.n_frames)
        models.append(
            ObjectModel(
                **{
                    **vars(failed),
                    "registered": toy_scene.registered[column],
                    "cam_from_obj": toy_scene.cam_from_obj[column],
                    "quality": {"reprojection_error_px": 0.25, "parallax_deg": 7.0},
                }
            )
        )
    return Sfm(toy_scene.intrinsics, toy_scene.width, toy_scene.height, tuple(models), "assumed")


@pytest.fixture
def context(tmp_path) -> StageContext:
    return StageContext(tmp_path, ItemCache(tmp_path / "items"))


@pytest.fixture(scope="session")
def toy_findings(toy_scene, toy_video, toy_labels, toy_samples, toy_sfm, toy_zone, toy_ranges, tmp_path_factory) -> Findings:
    """A workspace in which everything was made, the flow being out of date."""
    overlay = tmp_path_factory.mktemp("overlay") / "overlay.mp4"
    write_overlay(overlay, toy_video, toy_labels.maps, Silent())
    losses = {"colour": 0.1, "depth": 0.02, "segmentation": 0.3, "total": 0.2}
    metrics = [{"step": 50 * i, "phase": "bootstrap", **{k: v / i for k, v in losses.items()}} for i in range(1, 20)]
    metrics.append({"step": 500, "round": 0, "valid_share": 0.2})
    stages = [StageRecord(name, 1.5, 0.25, "") for name in ("frames", "segment", "tracks", "sfm", "train", "sample")]
    return Findings(
        source="/videos/toy <1>.mp4",
        stages=(*stages, StageRecord("flow", 2.0, 3.0, "option flow.method changed from dis to raft-small")),
        config_text="[train]\nsteps = 1000\n",
        video=toy_video,
        labels=toy_labels,
        overlay=overlay,
        sfm=toy_sfm,
        scene=toy_scene,
        zone=toy_zone,
        log_scale_range=toy_ranges,
        samples=toy_samples,
        metrics=tuple(metrics),
        summaries={"train": {"seconds": 12.5, "psnr": 31.0}},
    )
