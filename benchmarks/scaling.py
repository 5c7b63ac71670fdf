"""How time and memory grow with the number of frames, the size of the images, and the number of objects.

    python -m benchmarks.scaling [train] [preprocess] [--work FOLDER] [--out ROWS.jsonl] [--steps 60]
    python -m benchmarks.scaling train preprocess --clip 100x854x480x4      (or several clips: frames x width x height x K)

Without --clip: frames 16 / 64 / 256, longer side 192 / 384 / 768 and K 2 / 4 / 9, one of them changed at a time. The clips
are synthetic. Training (preset `fast`, at the clip's own size) gets true masks and exact reconstructions; of preprocessing,
tracks and SfM get the true masks, and `segment` finds its own. Every cell is a process of its own, so its peak memory is its
own. Seconds are CPU seconds. Finished cells of --out are not measured again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import Row, markdown, record, stored

STAGES = ("frames", "flow", "segment", "tracks", "sfm")


@dataclass(frozen=True)
class Clip:
    """A synthetic video: K counts the background."""

    frames: int
    width: int
    height: int
    k: int

    @classmethod
    def parse(cls, text: str) -> "Clip":
        return cls(*(int(part) for part in text.split("x")))

    @property
    def name(self) -> str:
        return f"{self.frames}x{self.width}x{self.height}x{self.k}"

    @property
    def described(self) -> Row:
        return {"clip": self.name, "frames": self.frames, "side_px": max(self.width, self.height), "K": self.k}


BASE = Clip(16, 192, 144, 4)
GRID = (
    *(Clip(frames, BASE.width, BASE.height, BASE.k) for frames in (16, 64, 256)),
    *(Clip(BASE.frames, side, side * 3 // 4, BASE.k) for side in (384, 768)),
    *(Clip(BASE.frames, BASE.width, BASE.height, k) for k in (2, 9)),
)


def film(clip: Clip, folder: Path) -> None:
    """The clip's frames, true masks and exact reconstruction, unless they are there."""
    from benchmarks import known
    from pipelines.synthetic import SceneSpec, Surroundings

    if (folder / "sfm" / "sfm.json").exists():
        return
    spec = SceneSpec(1, clip.k - 1, clip.frames, clip.width, clip.height, surroundings=Surroundings.ROOM, candidates=1)
    known.film(spec, folder)


def run_stage(stage: str, folder: Path) -> Row:
    """One stage of preprocessing, with its results kept in `folder/made`."""
    import resource

    from pipelines import flow, frames, segment, sfm, tracks
    from pipelines.artifacts import Flow, Labels, Tracks, Video
    from pipelines.stage import ItemCache, StageContext

    made = folder / "made"
    out = made / stage
    out.mkdir(parents=True, exist_ok=True)
    items = made / ".items"
    with tempfile.TemporaryDirectory() as fresh:
        context = StageContext(out, ItemCache(Path(fresh) if stage != "flow" else items))
        started, wall = _cpu_s(), time.perf_counter()
        match stage:
            case "frames":
                frames.extract_frames(frames.FramesConfig(max_frames=100_000), source=folder / "video.mp4", context=context)
            case "flow":
                flow.compute_flow(flow.FlowConfig(), video=Video.load(made / "frames"), context=context)
            case "segment":
                video, found = Video.load(made / "frames"), Flow.load(made / "flow")
                segment.segment(segment.SegmentConfig(), video=video, flow=found, context=context)
            case "tracks":
                labels = Labels.load(folder / "segment")
                video, found = Video.load(made / "frames"), Flow.load(made / "flow")
                tracks.build_tracks(tracks.TracksConfig(), video=video, flow=found, labels=labels, context=context)
            case "sfm":
                labels = Labels.load(folder / "segment")
                video, chains = Video.load(made / "frames"), Tracks.load(made / "tracks")
                sfm.reconstruct(sfm.SfmConfig(), video=video, labels=labels, tracks=chains, context=context)
            case unknown:
                raise SystemExit(f"no such stage: {unknown}")
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return {"cpu_s": _cpu_s() - started, "wall_s": time.perf_counter() - wall, "peak_gib": peak / 2**20}


def _cpu_s() -> float:
    """Of this process and those that it waited for (ffmpeg)."""
    import os

    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def child(*arguments: str) -> Row:
    """The row that a process of its own prints as its last line. This process stays small: a child inherits its peak memory."""
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        return {"failed": reason[:160]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def measure(clip: Clip, work: Path, wanted: tuple[str, ...], steps: int, out: Path | None) -> None:
    """All cells of one clip that are not in `out` yet."""
    have = {(row["table"], row["clip"], row.get("stage")) for row in (stored(out) if out else []) if "failed" not in row}
    folder = work / clip.name
    cells: list[tuple[str, str | None]] = [("scaling: training", None)] if "train" in wanted else []
    cells += [("scaling: preprocessing", stage) for stage in STAGES] if "preprocess" in wanted else []
    if all((table, clip.name, stage) in have for table, stage in cells):
        return
    child("benchmarks.scaling", "film", "--clip", clip.name, "--work", str(work))
    for table, stage in cells:
        if (table, clip.name, stage) in have:
            continue
        if stage is None:
            side = str(max(clip.width, clip.height))
            arguments = ("benchmarks.training", "steps", str(folder), "--n", str(steps), "--max-side", side, "--json")
            row = child(*arguments)
        else:
            row = {"stage": stage} | child(
                "benchmarks.scaling", "stage", "--stage", stage, "--clip", clip.name, "--work", str(work)
            )
        print(f"{table} {clip.name} {stage or ''}: {json.dumps(row)}", file=sys.stderr, flush=True)
        record(table, clip.described | row, out)


def summary(rows: list[Row]) -> str:
    """Training: a row per clip. Preprocessing: CPU seconds per stage, and the most memory that any stage needs."""
    training = [row for row in rows if row["table"] == "scaling: training"]
    by_clip: dict[str, Row] = {}
    for row in rows:
        if row["table"] == "scaling: preprocessing":
            line = by_clip.setdefault(row["clip"], {key: row[key] for key in ("clip", "frames", "side_px", "K")})
            line[f"{row['stage']}_s"] = row.get("cpu_s", row.get("failed"))
    for clip, line in by_clip.items():
        cells = [row for row in rows if row["table"] == "scaling: preprocessing" and row["clip"] == clip]
        line["all_s"] = sum(row.get("cpu_s", 0.0) for row in cells)
        line["peak_gib"] = max(row.get("peak_gib", 0.0) for row in cells)
    parts = [markdown(table) for table in (training, list(by_clip.values())) if table]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="train, preprocess (default: both)")
    parser.add_argument("--clip", type=Clip.parse, action="append", help="frames x width x height x K")
    parser.add_argument("--work", type=Path, help="folder of the clips, kept; else a temporary one")
    parser.add_argument("--out", type=Path, help="JSON lines of finished cells")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    clips = tuple(options.clip or GRID)
    match options.what:
        case ["film"]:
            film(clips[0], options.work / clips[0].name)
            print("{}")
        case ["stage"]:
            print(json.dumps(run_stage(options.stage, options.work / clips[0].name)))
        case what if set(what) <= {"train", "preprocess"}:
            with tempfile.TemporaryDirectory() as temporary:
                work = options.work or Path(temporary)
                out = options.out or Path(temporary) / "rows.jsonl"
                for clip in clips:
                    measure(clip, work, tuple(what) or ("train", "preprocess"), options.steps, out)
                names = {clip.name for clip in clips}
                print(summary([row for row in stored(out) if row["clip"] in names]))
        case what:
            parser.error(f"{' '.join(what)}: expected train, preprocess, or nothing for both")


if __name__ == "__main__":
    main()
