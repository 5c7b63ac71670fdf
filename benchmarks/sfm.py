"""Pose errors, registration, focal length, time and memory of tracks and SfM on scenes whose truth is known.

Each scene is a folder that `GroundTruth.load` reads. Masks are the true ones, or those of a segment stage's folder (one scene
only); objects of given masks are compared with the true object that they overlap most.

    python -m benchmarks.sfm SCENE [SCENE ...] [--masks FOLDER] [--focal-px F]
"""

import argparse
import resource
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.tables import record
from pipelines.artifacts import Labels, Sfm, SfmStatus, Tracks, Video
from pipelines.evaluation.poses import PoseError, pose_error
from pipelines.flow import FlowConfig, compute_flow
from pipelines.ground_truth import GroundTruth
from pipelines.sfm import SfmConfig, reconstruct
from pipelines.stage import ItemCache, StageContext
from pipelines.tracks import TracksConfig, build_tracks

WIDTHS = (8, 15, 8, 10, 11, 10, 11, 8)
MIN_VISIBLE_PX = 300
"""A frame counts as missed only where the object shows this many pixels."""


@dataclass(frozen=True)
class Run:
    """What one scene gave, and the CPU seconds of its stages."""

    sfm: Sfm
    tracks: Tracks
    labels: Labels
    cpu_s: dict[str, float]


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def video_of(truth: GroundTruth, folder: Path) -> Video:
    folder.mkdir()
    for t, path in enumerate(truth.images_train):
        cv2.imwrite(str(folder / f"{t:06d}.png"), cv2.imread(str(path)))
    video = Video(folder, truth.width, truth.height, truth.n_frames, truth.fps, str(truth.folder))
    video.save()
    return video


def run(truth: GroundTruth, masks: Path | None, config: SfmConfig, work: Path) -> Run:
    """Flow, tracks and SfM in an empty folder."""
    assert truth.segm_train is not None, "scenes of this benchmark have true masks"
    video = video_of(truth, work / "frames")
    names = tuple(f"object {k}" for k in range(truth.n_objects))
    labels = Labels.load(masks) if masks else Labels(truth.segm_train, names)
    contexts = {}
    for name in ("flow", "tracks", "sfm"):
        (work / name).mkdir()
        contexts[name] = StageContext(work / name, ItemCache(work / "items"))
    clock = [cpu_seconds()]
    flow = compute_flow(FlowConfig(), video=video, context=contexts["flow"])
    clock.append(cpu_seconds())
    tracks = build_tracks(TracksConfig(), video=video, flow=flow, labels=labels, context=contexts["tracks"])
    clock.append(cpu_seconds())
    sfm = reconstruct(config, video=video, labels=labels, tracks=tracks, context=contexts["sfm"])
    clock.append(cpu_seconds())
    return Run(sfm, tracks, labels, dict(zip(contexts, np.diff(clock).tolist(), strict=True)))


def true_object(truth: GroundTruth, labels: Labels, object_id: int) -> int:
    """The true object that shares most pixels with a label."""
    assert truth.segm_train is not None, "scenes of this benchmark have true masks"
    return int(np.bincount(truth.segm_train[labels.maps == object_id], minlength=truth.n_objects).argmax())


def table(truth: GroundTruth, result: Run) -> list[PoseError]:
    """Print and record one line per object; returns the errors."""
    assert truth.segm_train is not None, "scenes of this benchmark have true masks"
    assert truth.depth_train is not None, "and depth"
    cam_from_obj, errors = truth.cam_from_obj(), []
    titles = ("object", "status", "tracks", "frames", "rotation", "position", "expected", "evidence")
    print("".join(f"{title:>{width}}" for title, width in zip(titles, WIDTHS, strict=True)))
    for model in result.sfm.objects:
        k = true_object(truth, result.labels, model.object_id)
        distance = float(np.median(truth.depth_train[truth.segm_train == k]))
        error = pose_error(model.cam_from_obj, cam_from_obj[k], model.registered, distance)
        errors.append(error)
        shown = (truth.segm_train == k).sum((1, 2)) >= MIN_VISIBLE_PX
        n_tracks = int((result.tracks.object_id == model.object_id).sum())
        expected = model.quality.get("expected_rotation_error_deg", np.nan)
        rivals = model.quality.get("rival_evidence", np.nan)
        cells = (
            f"{model.object_id} ({k})",
            model.status,
            n_tracks,
            f"{(model.registered & shown).sum()} of {shown.sum()}",
            f"{error.rotation_deg:.2f} deg",
            f"{100 * error.position:.2f} %",
            f"{expected:.2f} deg",
            f"{min(rivals, 99):.2f}",
        )
        print("".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True)))
        measured = {"rotation_deg": error.rotation_deg, "position_percent": 100 * error.position}
        record("sfm", {"scene": truth.folder.name, "object": cells[0], "status": str(model.status), **measured})
    focal_px, true_px = result.sfm.intrinsics[0, 0], truth.intrinsics[0, 0]
    off = 100 * (focal_px / true_px - 1)
    print(f"focal length {focal_px:.1f} px ({result.sfm.focal_source}), true {true_px:.1f} px: {off:+.2f} %")
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.cpu_s.items())
    print(f"CPU: {times}; peak memory so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB\n")
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", type=Path)
    parser.add_argument("--masks", type=Path, help="folder of a segment stage")
    parser.add_argument("--focal-px", type=float)
    options = parser.parse_args()
    if options.masks and len(options.scenes) > 1:
        parser.error("--masks belongs to one scene")
    movers, good, silent = 0, 0, 0
    for scene in options.scenes:
        truth = GroundTruth.load(scene)
        with tempfile.TemporaryDirectory() as work:
            result = run(truth, options.masks, SfmConfig(focal_px=options.focal_px, correct_masks=False), Path(work))
        print(scene)
        errors = table(truth, result)
        for model, error in list(zip(result.sfm.objects, errors, strict=True))[1:]:
            movers += 1
            good += model.usable and error.rotation_deg <= 1.5
            silent += model.status is SfmStatus.OK and error.rotation_deg > 5
    print(f"{good} of {movers} movers registered within 1.5 degrees; {silent} marked good and wrong by more than 5 degrees")


if __name__ == "__main__":
    main()
