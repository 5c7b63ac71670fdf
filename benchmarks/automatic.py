"""Preprocessing of synthetic scenes without masks and without options: are the movers found, are they right, is a failure told?

Each scene is made, filmed (H.264) and goes through frames, flow, segment, tracks and sfm with their defaults. Movers are
matched one to one with the found objects by the overlap of their masks over the clip. Outcome of a mover:

    good      its object is marked good, median rotation error at most 1.5 deg
    fair      its object is marked good, at most 5 deg
    WRONG     its object is marked good, and wrong by more than 5 deg
    told      its object is marked as failed, or it has no object and a person is asked to check the masks (anything at all)
    LOST      it has no object and nothing was said

With --true-masks the segmentation is left out: what remains are the errors of structure from motion. With --stored-masks it is
that of an earlier run with the same --keep: what changes is due to structure from motion and its corrections.

    python -m benchmarks.automatic [--seeds 0-11] [--true-masks] [--keep FOLDER [--stored-masks]]
"""

import argparse
import json
import resource
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.tables import Row, record
from pipelines.artifacts import Flow, Labels, Sfm, SfmStatus, Tracks, Video
from pipelines.evaluation.poses import pose_error
from pipelines.evaluation.segmentation import LEAST_IOU, overlap
from pipelines.flow import FlowConfig, compute_flow
from pipelines.frames import FramesConfig, extract_frames
from pipelines.ground_truth import GroundTruth
from pipelines.progress import Advance
from pipelines.segment import SegmentConfig, segment
from pipelines.sfm import SfmConfig, reconstruct
from pipelines.stage import ItemCache, StageContext
from pipelines.synthetic.scene import make_scene
from pipelines.synthetic.spec import SceneSpec, Variant
from pipelines.tracks import TracksConfig, build_tracks

VARIANTS = (
    Variant.STANDARD,
    Variant.STANDARD,
    Variant.STATIC_CAMERA,
    Variant.STANDARD,
    Variant.STANDARD,
    Variant.ROTATION_ONLY,
)
FOUND_IOU = 0.5
GOOD_DEG, WRONG_DEG = 1.5, 5.0
ASKS_FOR_A_LOOK = "check overlay.mp4"
"""Is in every doubt about the masks."""
OUTCOMES = ("good", "fair", "told", "WRONG", "LOST", "extra", "extra, told", "extra, WRONG")
WIDTHS = (12, 8, 8, 16, 9, 10, 10, 10)


@dataclass
class Listener:
    """Keeps what the stages say."""

    notes: list[str] = field(default_factory=list)

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Advance]:
        yield lambda steps: None

    def note(self, message: str) -> None:
        self.notes.append(message)


@dataclass(frozen=True)
class Run:
    """What one scene gave."""

    labels: Labels
    sfm: Sfm
    doubts: list[str]
    """Where the segmentation asks a person to look."""
    notes: list[str]
    cpu_s: dict[str, float]


def spec_of(seed: int) -> SceneSpec:
    """Two to four movers; of six scenes one has a static and one a turning camera."""
    return SceneSpec(
        seed=seed,
        n_movers=2 + (seed + seed // 6) % 3,
        n_frames=28,
        width=320,
        height=240,
        variant=VARIANTS[seed % len(VARIANTS)],
    )


def seeds_in(text: str) -> list[int]:
    """ "0-3,7" is 0, 1, 2, 3, 7."""
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return [seed for low, *high in ends for seed in range(low, (high or [low])[0] + 1)]


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(spec: SceneSpec, work: Path, true_masks: bool = False, stored_masks: bool = False) -> tuple[GroundTruth, Run]:
    """The scene, and the chain with its defaults.

    Scene, frames and flow that are in the folder already are used again, and masks and tracks if asked for.
    """
    listener, clock = Listener(), {}
    items = ItemCache(Path(tempfile.mkdtemp(prefix="items-", dir=work)))

    @contextmanager
    def stage(name: str) -> Iterator[StageContext]:
        start = cpu_seconds()
        (work / name).mkdir(exist_ok=True)
        yield StageContext(work / name, items, listener)
        clock[name] = cpu_seconds() - start

    if not (work / "scene" / "video.mp4").exists():
        make_scene(spec).write(work / "scene")
    truth = GroundTruth.load(work / "scene")
    if (work / "flow" / "flow.json").exists():
        video, flow = Video.load(work / "frames"), Flow.load(work / "flow")
    else:
        with stage("frames") as context:
            video = extract_frames(FramesConfig(), source=work / "scene" / "video.mp4", context=context)
        with stage("flow") as context:
            flow = compute_flow(FlowConfig(), video=video, context=context)
    before = len(listener.notes)
    said = work / "segment" / "notes.json"
    if stored_masks and said.exists():
        labels, tracks = Labels.load(work / "segment"), Tracks.load(work / "tracks")
        listener.notes += json.loads(said.read_text())
    else:
        with stage("segment") as context:
            if true_masks:
                assert truth.segm_train is not None, "synthetic scenes have true masks"
                labels = Labels(truth.segm_train, tuple(f"object {k}" for k in range(truth.n_objects)))
            else:
                labels = segment(SegmentConfig(), video=video, flow=flow, context=context)
        with stage("tracks") as context:
            tracks = build_tracks(TracksConfig(), video=video, flow=flow, labels=labels, context=context)
        if not true_masks:
            said.write_text(json.dumps(listener.notes[before:]))
    with stage("sfm") as context:
        config = SfmConfig(correct_masks=not true_masks)
        sfm = reconstruct(config, video=video, labels=labels, tracks=tracks, context=context)
    doubts = [note for note in listener.notes[before:] if ASKS_FOR_A_LOOK in note]
    return truth, Run(sfm.corrected(labels, work / "sfm"), sfm, doubts, listener.notes, clock)


def overlaps(labels: Labels, truth: GroundTruth) -> np.ndarray:
    """IoU (objects, true objects) over the clip."""
    assert truth.segm_train is not None, "synthetic scenes have true masks"
    n = max(labels.n_objects, truth.n_objects)
    counted = overlap(labels.maps, truth.segm_train, n)
    return np.nan_to_num(counted.iou).T[: labels.n_objects, : truth.n_objects]


def judge(scene: str, truth: GroundTruth, result: Run) -> list[str]:
    """Print a line for each mover and each object of no mover, and record it; returns the outcomes."""
    assert truth.segm_train is not None, "synthetic scenes have true masks"
    assert truth.depth_train is not None, "and depth"
    iou = overlaps(result.labels, truth)
    matched = {int(k) + 1: int(j) + 1 for j, k in zip(*linear_sum_assignment(-iou[1:, 1:]), strict=True)}
    matched = {k: j for k, j in matched.items() if iou[j, k] >= LEAST_IOU}
    cam_from_obj = truth.cam_from_obj()
    outcomes = []
    for k, j in [*((k, matched.get(k)) for k in range(1, truth.n_objects)), *((None, j) for j in spare(matched, result))]:
        cells = [f"mover {k}" if k else f"extra {j}", f"{iou[j, k]:.3f}" if k and j else "-"]
        row: Row = {"scene": scene, "object": cells[0], "iou": float(iou[j, k]) if k and j else None}
        if j is None:
            outcomes.append("told" if result.doubts else "LOST")
            cells += ["-"] * 5
        else:
            model = result.sfm.objects[j]
            true = k or int(np.bincount(truth.segm_train[result.labels.maps == j], minlength=truth.n_objects).argmax())
            distance = float(np.median(truth.depth_train[truth.segm_train == true]))
            error = pose_error(model.cam_from_obj, cam_from_obj[true], model.registered, distance)
            if not model.usable or (model.status is SfmStatus.DOUBTFUL and error.rotation_deg > GOOD_DEG):
                outcomes.append("told" if k else "extra, told")
            elif error.rotation_deg > WRONG_DEG:
                outcomes.append("WRONG" if k else "extra, WRONG")
            else:
                outcomes.append(("good" if error.rotation_deg <= GOOD_DEG else "fair") if k else "extra")
            row |= {"rotation_deg": error.rotation_deg, "position_percent": 100 * error.position}
            cells += [
                f"{j}",
                model.status,
                f"{model.registered.sum()}/{truth.n_frames}",
                f"{error.rotation_deg:.2f} deg",
                f"{100 * error.position:.2f} %",
            ]
        record("automatic", row)
        print("".join(f"{cell:>{width}}" for cell, width in zip([*cells, outcomes[-1]], WIDTHS, strict=True)))
    return outcomes


def spare(matched: dict[int, int], result: Run) -> list[int]:
    """Objects that were matched with no mover; pieces were joined with others."""
    return [j for j in range(1, result.labels.n_objects) if j not in matched.values() and j not in result.sfm.bodies]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-11", help="such as 0-3,7")
    parser.add_argument("--true-masks", action="store_true", help="judge structure from motion by itself")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep everything there; scenes and flow are used again")
    parser.add_argument("--stored-masks", action="store_true", help="segmentation and tracks are used again, too")
    options = parser.parse_args()
    if options.stored_masks and (options.true_masks or options.keep is None):
        parser.error("--stored-masks are those in the folder of --keep, not the true ones")
    totals: Counter[str] = Counter()
    movers, found = 0, 0
    for seed in seeds_in(options.seeds):
        spec = spec_of(seed)
        with tempfile.TemporaryDirectory() as scratch:
            work = (options.keep or Path(scratch)) / f"seed_{seed:02d}"
            work.mkdir(parents=True, exist_ok=True)
            truth, result = run(spec, work, options.true_masks, options.stored_masks)
        iou = overlaps(result.labels, truth)[1:, 1:].max(0, initial=0)
        print(f"seed {seed}, {spec.variant}: {len(result.sfm.scene_ids) - 1} objects for {spec.movers} movers")
        print(
            "".join(
                f"{t:>{w}}"
                for t, w in zip(("", "IoU", "object", "status", "frames", "rotation", "position", ""), WIDTHS, strict=True)
            )
        )
        totals.update(judge(f"seed {seed}", truth, result))
        movers += spec.movers
        found += int((iou >= FOUND_IOU).sum())
        for note in result.notes:
            print(f"    {note}")
        off = 100 * (result.sfm.intrinsics[0, 0] / truth.intrinsics[0, 0] - 1)
        times = ", ".join(f"{name} {seconds:.0f}" for name, seconds in result.cpu_s.items())
        print(f"    focal length {off:+.2f} % ({result.sfm.focal_source}); CPU s: {times}\n", flush=True)
    print(f"{movers} movers, {found} found (IoU at least {FOUND_IOU})")
    print(", ".join(f"{totals[outcome]} {outcome}" for outcome in OUTCOMES))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
