"""What the parts of training are worth: rounds of alternation, the bootstrap, and where scales are drawn from.

    python -m benchmarks.ablations --out ROWS.jsonl [--work FOLDER] [--seeds 1 2] [--steps 500] [--only VARIANT ...]

Two synthetic scenes (20 frames of 160 x 120, two movers), true masks and exact motion, one training per variant:

    rounds N            N rounds of learning the scales (0: every object is trained alone to the end)
    no bootstrap        5 rounds, starting at once
    draws zone          5 rounds; training draws its combinations from the zone without asking the network
    draws uniform       5 rounds; training draws any combination within the ranges: what not learning the scales costs

Of each: novel views with the best of 1,000 samples of `osn sample` (PSNR, SSIMAE), the share of those samples that is truly
invalid, precision and recall of zone and network. `rounds 5` is sampled in other ways, too: from the zone alone, from the
network alone, uniformly. A killed run goes on where it was; finished rows of --out are not made again.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from jaxtyping import Float

from benchmarks.known import true_workspace
from benchmarks.tables import Row, markdown, record, stored
from pipelines.artifacts import Labels, Samples, Sfm, Video
from pipelines.errors import OsnError
from pipelines.evaluate import EvaluateConfig, evaluate
from pipelines.evaluation.alignment import align
from pipelines.evaluation.valid_set import is_valid, telling_rays, true_agreement
from pipelines.ground_truth import GroundTruth
from pipelines.sample import SampleConfig, sample
from pipelines.scene import scales
from pipelines.scene.scene import Scene
from pipelines.stage import ItemCache, StageContext
from pipelines.synthetic import SceneSpec, make_scene
from pipelines.train import TrainConfig, train

TABLE = "ablations"
N_SAMPLES = 1000
EVALUATION = EvaluateConfig(n_views=6, baselines=False, meshes=False)
_DRAWS = 400_000
"""Uniform combinations that the network may choose its samples from."""


@dataclass(frozen=True)
class Variant:
    """What is changed, relative to five rounds."""

    changes: dict[str, Any]
    draws: str = "zone and network"
    """Where training takes the combination of a step from."""


VARIANTS = {
    **{f"rounds {n}": Variant({"rounds": n}) for n in (0, 1, 5, 10)},
    "no bootstrap": Variant({"bootstrap_share": 0.0, "alternate_share": 0.75}),
    "draws zone": Variant({}, "zone"),
    "draws uniform": Variant({}, "uniform"),
}
SAMPLED_OTHERWISE = "rounds 5"


def training(variant: Variant, steps: int) -> TrainConfig:
    changes = {"rounds": 5, "steps": steps, "rays_per_step": 1024, "max_side_px": 160, "checkpoint_every_steps": 100}
    return TrainConfig.preset("fast", **(changes | {"preview_every_steps": 0} | variant.changes))


def uniform(scene: Scene, n: int, random: np.random.Generator) -> Float[np.ndarray, "n K"]:
    """Log scales anywhere within the ranges."""
    low, high = scene.log_scale_range.T
    return random.uniform(low, high, (n, len(low)))


@contextmanager
def drawing(source: str) -> Iterator[None]:
    """Training draws from another source meanwhile."""
    sources: dict[str, Callable[[Scene, np.random.Generator], np.ndarray]] = {
        "zone and network": scales.drawn,
        "zone": lambda scene, random: scene.zone.sample(scales.DRAWN, random),
        "uniform": lambda scene, random: uniform(scene, scales.DRAWN, random),
    }
    with mock.patch.object(scales, "drawn", sources[source]):
        yield


def sampled(scene: Scene, source: str, context: StageContext) -> Samples:
    """A thousand combinations. Raises ReconstructionError where the source holds none for valid."""
    random = np.random.default_rng(0)
    ids = np.array(scene.object_ids)
    match source:
        case "osn sample":
            return sample(SampleConfig(n=N_SAMPLES, maps=False), scene=scene, context=context)
        case "zone":
            found = scene.zone.sample(N_SAMPLES, random)
        case "network":
            drawn = uniform(scene, _DRAWS, random)
            found = drawn[scene.network.score(drawn) >= 0.5][:N_SAMPLES]
        case _:
            found = uniform(scene, N_SAMPLES, random)
    return Samples(found, np.ones(len(found)), ids)


@dataclass(frozen=True)
class Case:
    """One scene on disk, with perfect preprocessing."""

    name: str
    folder: Path

    @classmethod
    def make(cls, seed: int, work: Path, spec: SceneSpec) -> "Case":
        case = cls(f"synthetic {seed}", work / f"synthetic-{seed}-{spec.n_frames}x{spec.width}")
        if not (case.folder / "sfm" / "sfm.json").exists():
            scene = make_scene(spec)
            true_workspace(scene.write(case.folder), scene.names, case.folder)
        return case

    def train(self, name: str, variant: Variant, steps: int) -> tuple[Scene, StageContext]:
        """The trained scene; goes on from a checkpoint, or is read where it is complete."""
        out = self.folder / "trained" / f"{name}-{steps}".replace(" ", "-")
        out.mkdir(parents=True, exist_ok=True)
        context = StageContext(out, ItemCache(out / ".items"))
        if not (out / "summary.json").exists():
            video, labels = Video.load(self.folder / "frames"), Labels.load(self.folder / "segment")
            with drawing(variant.draws):
                train(training(variant, steps), video=video, labels=labels, sfm=Sfm.load(self.folder / "sfm"), context=context)
        return Scene.load(out), context

    def score(self, scene: Scene, samples: Samples) -> Row:
        """Novel views, truly invalid samples, and the learned sets."""
        truth, labels, sfm = GroundTruth.load(self.folder), Labels.load(self.folder / "segment"), Sfm.load(self.folder / "sfm")
        with tempfile.TemporaryDirectory() as folder:
            context = StageContext(Path(folder), ItemCache(Path(folder)))
            tables = evaluate(EVALUATION, scene=scene, samples=samples, sfm=sfm, labels=labels, truth=truth, context=context)
        best = tables["novel_views"][0]
        alignment = align(scene.object_ids, scene.cam_from_obj, scene.registered, labels, truth)
        rays = telling_rays(truth)
        relative = np.exp(samples.log_scale - alignment.true_log_scale)
        truly_valid = is_valid(true_agreement(rays.depth_alone, rays.labels, relative))
        row: Row = {"psnr_db": best["psnr_db"], "ssimae": best["ssimae"], "invalid_share": float(1 - truly_valid.mean())}
        for learned in tables["valid_set"]:
            if learned["set"] in ("zone", "network"):
                row |= {f"{learned['set']}_precision": learned["precision"], f"{learned['set']}_recall": learned["recall"]}
        return row


def run(case: Case, name: str, steps: int, done: set[tuple[str, str, str]], out: Path) -> None:
    """Every row of one variant that is not there yet."""
    sources = ["osn sample", *(("zone", "network", "uniform") if name == SAMPLED_OTHERWISE else ())]
    missing = [source for source in sources if (case.name, name, source) not in done]
    if not missing:
        return
    scene, context = case.train(name, VARIANTS[name], steps)
    for source in missing:
        row: Row = {"scene": case.name, "variant": name, "samples": source, "steps": steps}
        try:
            row |= case.score(scene, sampled(scene, source, context))
        except OsnError as error:
            row["failed"] = str(error)
        record(TABLE, row, out)
        print(markdown([row]).splitlines()[-1], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="folder of scenes and trainings [beside --out]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    work = options.work or options.out.with_suffix("")
    cases = []
    for seed in options.seeds:
        spec = SceneSpec(seed, 2, options.frames, options.width, options.width * 3 // 4, candidates=4)
        cases.append(Case.make(seed, work, spec))
    for name in options.only:
        for case in cases:
            rows = [row for row in stored(options.out) if row["table"] == TABLE and row["steps"] == options.steps]
            run(case, name, options.steps, {(row["scene"], row["variant"], row["samples"]) for row in rows}, options.out)
    print()
    print(markdown([row for row in stored(options.out) if row["table"] == TABLE and row["steps"] == options.steps]))


if __name__ == "__main__":
    main()
