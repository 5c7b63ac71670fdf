"""The whole chain against the truth: novel views (best of N samples, and single solutions), valid set, motion, meshes.

    python -m benchmarks.quality [SCENE ...] [--synthetic SEED ...] [--preset fast] [--truths 20] [--work FOLDER]

A scene is a folder with ground truth in any layout that `osn eval` reads; --synthetic makes one (--size: frames x width x
height x K, by default 24 frames of 320 x 240 and three movers). Masks are the true ones where the truth has them, unless
--automatic. Everything else is found. --work keeps the workspaces, and what is done there isn't done again.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scaling import Clip
from benchmarks.tables import Row, markdown, record
from pipelines import palette_png
from pipelines.evaluation.layouts import load_truth
from pipelines.json_files import read_json

TABLES = {"novel_views": "scales", "multi_truth": "scales", "valid_set": "set", "objects": "object", "meshes": "object"}
"""Tables of `eval.json` that are printed, and the column that names their rows."""


@dataclass(frozen=True)
class Chain:
    """How each scene is run."""

    preset: str = "fast"
    n_samples: int = 1000
    truths: int = 0
    views: int = 8
    automatic: bool = False
    settings: tuple[str, ...] = ()
    """STAGE.OPTION=VALUE."""

    def evaluate(self, scene: Path, workspace: Path, truth: Path | None = None) -> dict[str, Any]:
        """Run what is not done yet; the content of `eval.json`. truth: another one than the scene's own."""
        video = filmed(scene, workspace.with_name(f"{workspace.name}-film"))
        masks = None if self.automatic else true_masks(scene, workspace.with_name(f"{workspace.name}-masks"))
        given = ["--masks", str(masks)] if masks else []
        # Every frame counts, so that frames and truth agree.
        osn("preprocess", str(video), *given, "--max-frames", "100000", "-w", str(workspace), *self._settings)
        osn("train", "--preset", self.preset, "-w", str(workspace), *self._settings)
        osn("sample", "--n", str(self.n_samples), "-w", str(workspace), *self._settings)
        compared = ["--truth", str(truth or scene), "--truths", str(self.truths), "--views", str(self.views)]
        osn("eval", *compared, "-w", str(workspace), *self._settings)
        return dict(read_json(workspace / "evaluate" / "eval.json"))

    @property
    def _settings(self) -> list[str]:
        return [part for setting in self.settings for part in ("--set", setting)]


def osn(*arguments: str) -> None:
    """A command as a person types it; its words go to stderr."""
    done = subprocess.run([sys.executable, "-m", "osn_cli", *arguments, "--quiet"], stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"osn {' '.join(arguments)} ended with code {done.returncode}")


def filmed(scene: Path, folder: Path) -> Path:
    """The scene's video, or a folder of links to its filmed frames, in their order."""
    if (scene / "video.mp4").is_file():
        return scene / "video.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    for t, image in enumerate(load_truth(scene).images_train):
        link = folder / f"{t:06d}{image.suffix.lower()}"
        if not link.exists():
            link.symlink_to(image.absolute())
    return folder


def true_masks(scene: Path, folder: Path) -> Path | None:
    """The truth's label maps as a folder that `--masks` takes; None where the layout has none."""
    if (scene / "segm_train").is_dir():
        return scene / "segm_train"
    truth = load_truth(scene)
    if truth.segm_train is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    for t, labels in enumerate(truth.segm_train):
        palette_png.write(folder / f"{t:06d}.png", labels)
    return folder


def synthetic(seed: int, clip: Clip, work: Path) -> Path:
    """Folder of a scene with known truth, made once."""
    from pipelines.synthetic import SceneSpec, make_scene

    folder = work / f"synthetic-{seed}-{clip.name}"
    if not (folder / "gt.npz").is_file():
        make_scene(SceneSpec(seed, clip.k - 1, clip.frames, clip.width, clip.height)).write(folder)
    return folder


def report(scene: str, tables: dict[str, Any], setup: Row) -> None:
    """Print and record one scene's tables."""
    print(f"\n## {scene}\n")
    for table, key in TABLES.items():
        rows = tables.get(table) or []
        if rows:
            print(f"{table.replace('_', ' ')}:\n\n{markdown(rows)}\n")
        for row in rows:
            record(f"quality: {table}", {"scene": scene, **setup, **row, key: str(row[key])})
    for note in tables["notes"]:
        print(f"- {note['note']}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, nargs="*")
    parser.add_argument("--synthetic", type=int, nargs="+", default=[], metavar="SEED")
    parser.add_argument("--size", type=Clip.parse, default=Clip(24, 320, 240, 4), help="of the synthetic scenes")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--n", type=int, default=1000, help="samples")
    parser.add_argument("--truths", type=int, default=0, help="other true scenes (synthetic ones only)")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--automatic", action="store_true", help="find the masks, too")
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.OPTION=VALUE")
    parser.add_argument("--work", type=Path, help="folder of the workspaces, kept")
    options = parser.parse_args()
    chain = Chain(options.preset, options.n, options.truths, options.views, options.automatic, tuple(options.set))
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        scenes = [*options.scenes, *(synthetic(seed, options.size, work) for seed in options.synthetic)]
        for scene in scenes:
            tables = chain.evaluate(scene, work / f"{scene.name}-{options.preset}")
            report(scene.name, tables, {"preset": options.preset, "automatic": str(options.automatic)})


if __name__ == "__main__":
    main()
