"""The tables of OSN (Song, Li, Yang, ICML 2024, arXiv 2407.05615) for whoever has its data, the paper's figures beside ours.

    python -m benchmarks.paper DATA_DIR [--preset paper] [--work FOLDER] [--multi-truth SCENE=TRUTHS_DIR]

DATA_DIR holds a folder per scene in the processed layout (docs/formats.md), or a folder per data set with scenes in it. Each
scene goes through the whole chain with the masks that it has, 1,000 samples, all held-out views. Printed:

    novel views         a row per scene, and the mean over each data set: PSNR, SSIM, LPIPS, SSIMAE, mIoU, PQ
    many true scenes    best of the samples against each folder in TRUTHS_DIR: one video, other truths (mean and deviation)

The paper's own figures are those quoted by a public summary of it, means over a data set; the paper itself was not at hand
when they were entered. What could not be established says so, and is not to be filled in by guessing.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality import Chain
from benchmarks.tables import Row, markdown, record
from pipelines.evaluation.layouts import processed
from pipelines.evaluation.protocol import mean_and_deviation

MEASURES = ("psnr_db", "ssim", "lpips", "ssimae", "miou", "pq")
PAPER: dict[str, dict[str, float]] = {
    "Dynamic Indoor Scene": {"psnr_db": 25.984, "ssimae": 0.094, "miou": 0.92451, "pq": 0.92211},
}
"""Mean over the data set of the paper's method (5 rounds)."""
PAPER_MANY = {"psnr_db": (22.940, 1.004)}
"""Gnome House under 50 true combinations: mean, deviation."""
UNKNOWN = "not established"


def scenes_of(folder: Path) -> dict[str, list[Path]]:
    """Scenes by data set, which is the folder that they lie in.

    Raises SystemExit where there is none.
    """
    found: dict[str, list[Path]] = {}
    for place in sorted({*folder.glob("*"), *folder.glob("*/*")}):
        if place.is_dir() and processed.recognises(place):
            found.setdefault(place.parent.name, []).append(place)
    if not found:
        raise SystemExit(f"{folder} holds no scene in the processed layout (transforms_train.json): see docs/formats.md")
    return found


def published(dataset: str) -> dict[str, float]:
    """The paper's means, by the name of the data set however it is written."""
    wanted = "".join(filter(str.isalpha, dataset.lower()))
    for name, figures in PAPER.items():
        known = "".join(filter(str.isalpha, name.lower()))
        if wanted == known:
            return figures
    return {}


def table(dataset: str, rows: Sequence[Row]) -> list[Row]:
    """Scenes, their mean, and the paper's mean."""
    mean = {name: _mean([row.get(name) for row in rows]) for name in MEASURES}
    known = published(dataset)
    paper = {name: known.get(name, UNKNOWN) for name in MEASURES}
    return [*rows, {"scene": f"mean of {dataset}"} | mean, {"scene": f"paper, mean of {dataset}"} | paper]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def best(tables: Row) -> Row:
    """The figures of the best sample."""
    rows = tables.get("novel_views") or []
    found = next((row for row in rows if row["scales"].startswith("best of")), {})
    return {name: found.get(name) for name in MEASURES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--n", type=int, default=1000, help="samples")
    parser.add_argument("--multi-truth", metavar="SCENE=TRUTHS_DIR", help="one of the scenes, and a folder of its other truths")
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.OPTION=VALUE")
    parser.add_argument("--work", type=Path, help="folder of the workspaces, kept")
    options = parser.parse_args()
    settings = ("frames.max_side=100000", "evaluate.meshes=false", "evaluate.baselines=false", *options.set)
    chain = Chain(options.preset, options.n, views=100_000, settings=settings)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        for dataset, scenes in scenes_of(options.data).items():
            rows = []
            for scene in scenes:
                rows.append({"scene": scene.name} | best(chain.evaluate(scene, work / f"{dataset}-{scene.name}")))
                record("paper: novel views", {"preset": options.preset, "dataset": dataset, **rows[-1]})
            print(f"\nNovel views, {dataset}, preset {options.preset}:\n\n{markdown(table(dataset, rows))}", flush=True)
        if options.multi_truth:
            name, _, folder = options.multi_truth.partition("=")
            print(many_truths(chain, options.data, name, Path(folder), work))


def many_truths(chain: Chain, data: Path, name: str, folder: Path, work: Path) -> str:
    """One trained scene against every truth in a folder: the film is the same, object poses and held-out views differ."""
    places = [(dataset, scene) for dataset, scenes in scenes_of(data).items() for scene in scenes if scene.name == name]
    truths = sorted(place for place in folder.glob("*") if processed.recognises(place))
    if not places or not truths:
        raise SystemExit(f"--multi-truth {name}={folder}: expected the name of a scene and a folder of processed scenes")
    dataset, scene = places[0]
    found = [best(chain.evaluate(scene, work / f"{dataset}-{name}", truth=truth)) for truth in truths]
    numbers = [{key: np.nan if value is None else float(value) for key, value in row.items()} for row in found]
    rows = []
    for measure, figures in mean_and_deviation(numbers).items():
        paper = PAPER_MANY.get(measure)
        told = UNKNOWN if paper is None else f"{paper[0]} ± {paper[1]}"
        rows.append({"measure": measure, "mean": figures["mean"], "deviation": figures["deviation"], "paper (50 truths)": told})
    return f"\n{name} against {len(truths)} true scenes:\n\n{markdown(rows)}"


if __name__ == "__main__":
    main()
