"""Kill `osn run` at random moments, again and again; every result on disk must stay whole, and finished work finished.

    python -m benchmarks.interruptions [--kills 20] [--seed 0]

Each round starts the same command, kills it with SIGKILL after a random time, and looks at the workspace: every result that is
in place must be complete (all files as its manifest lists them, contents compared), and a result that was there before must
be the same one. The last round is not killed and must end with every artifact loadable.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipelines.artifacts import Flow, Labels, Samples, Sfm, Tracks, Video, read_json
from pipelines.store import Workspace

TINY = (
    "train.steps=60", "train.max_side_px=64", "train.checkpoint_every_steps=10", "train.preview_every_steps=0",
    "train.rounds=1", "train.evidence_frames=4", "train.cache_resolution=16", "render.width_px=48", "render.frame_step=4",
    "export.meshing.object_cells=24", "export.meshing.background_cells=32", "export.meshing.view_width_px=64",
)  # fmt: skip
PLACES = ("frames", "flow", "segment", "tracks", "sfm", "train", "sample")


def command(scene: Path, workspace: Path) -> list[str]:
    options = [part for setting in TINY for part in ("--set", setting)]
    fixed = ["--masks", str(scene / "masks"), "--focal-px", str(focal_px(scene)), "--n", "100", "-w", str(workspace)]
    return [sys.executable, "-m", "osn_cli", "run", str(scene / "video.mp4"), *fixed, *options]


def focal_px(scene: Path) -> float:
    with np.load(scene / "gt.npz") as truth:
        return float(truth["K"][0, 0])


def manifests(workspace: Path) -> dict[str, str]:
    """Digest of every result that is in place; each must be whole."""
    found = {}
    for path in sorted(workspace.rglob("manifest.json")):
        name = path.parent.relative_to(workspace).as_posix()
        if name.startswith("."):
            continue
        manifest = read_json(path)
        verdict = Workspace(workspace).check(name, manifest["ingredients"], thorough=True)
        if not verdict.hit:
            raise SystemExit(f"{name} is not whole after a kill: {verdict.reason}")
        found[name] = f"{manifest['digest']} {path.stat().st_mtime_ns}"
    return found


def load_everything(workspace: Path) -> None:
    from pipelines.scene.scene import Scene

    for place, artifact in zip(PLACES, (Video, Flow, Labels, Tracks, Sfm, Scene, Samples), strict=True):
        artifact.load(workspace / place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from pipelines.synthetic import SceneSpec, make_scene

    generator = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        scene, workspace = Path(temporary) / "scene", Path(temporary) / "osn-work"
        make_scene(SceneSpec(seed=1, n_movers=1, n_frames=12, width=128, height=96)).write(scene)
        started = time.monotonic()
        subprocess.run(command(scene, Path(temporary) / "unbroken"), check=True, capture_output=True)
        whole_s = time.monotonic() - started
        print(f"an unbroken run takes {whole_s:.1f} s")
        before: dict[str, str] = {}
        for kill in range(arguments.kills):
            wait_s = float(generator.uniform(0.05, 0.6) * whole_s)
            process = subprocess.Popen(command(scene, workspace), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(wait_s)
            finished = process.poll() is not None
            if not finished:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
            after = manifests(workspace) if workspace.exists() else {}
            redone = [name for name, identity in before.items() if after.get(name) != identity]
            end = "finished before" if finished else "killed"
            print(f"kill {kill + 1:2d} after {wait_s:5.1f} s: {end}; in place: {', '.join(after)}")
            if redone:
                raise SystemExit(f"finished results were made again or lost: {', '.join(redone)}")
            before = after
            if finished:
                subprocess.run(["rm", "-rf", str(workspace)], check=True)
                before = {}
        subprocess.run(command(scene, workspace), check=True, capture_output=True)
        manifests(workspace)
        load_everything(workspace)
        print(f"{arguments.kills} kills: every result was whole, no finished stage was redone, the last run is complete")


if __name__ == "__main__":
    main()
