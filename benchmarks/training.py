"""Speed and memory of training and of compositing, as tables in Markdown.

    python -m benchmarks.training steps WORKSPACE [--preset fast] [--device cpu] [--n 60] [--max-side PX] [--json]
    python -m benchmarks.training compositing [--combinations 256]

`steps` reads the frames, labels and reconstruction of a workspace and trains some steps of each phase, with fields of the
phase's resolution; `compositing` needs nothing. Times are processor seconds on a CPU (they do not depend on what else runs)
and wall seconds on a GPU.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.tables import markdown, record
from pipelines.artifacts import Labels, Sfm, Video
from pipelines.scene.compositing import RaySamples, composite
from pipelines.scene.contraction import Box
from pipelines.scene.fields import FieldKind, FieldSize, make_field
from pipelines.scene.trainer import Trainer
from pipelines.stage import ItemCache, StageContext
from pipelines.train import TrainConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    steps = commands.add_parser("steps")
    steps.add_argument("workspace", type=Path)
    steps.add_argument("--preset", default="fast")
    steps.add_argument("--device", default="cpu")
    steps.add_argument("--n", type=int, default=60)
    steps.add_argument("--max-side", type=int, help="longer side of the images that are learned from; else the preset's")
    steps.add_argument("--json", action="store_true")
    compositing = commands.add_parser("compositing")
    compositing.add_argument("--combinations", type=int, default=256)
    options = parser.parse_args()
    if options.command == "steps":
        found = time_steps(options.workspace, options.preset, options.device, options.n, options.max_side)
        if options.json:
            print(json.dumps(found))
        else:
            print(markdown([found]))
            record("training steps", {"workspace": options.workspace.name, "preset": options.preset, **found})
    else:
        time_compositing(options.combinations)


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of `work` on a CPU; wall seconds where a GPU computes meanwhile."""
    on_gpu = torch.cuda.is_initialized()
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    start = clock()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - start


def time_steps(workspace: Path, preset: str, device: str, n: int, max_side_px: int | None = None) -> dict[str, float]:
    """Steps and rays per second in the bootstrap and in the alternating phase, one round of the scales, and peak memory.

    A third of n steps warms each phase up: Adam, caches, and as much of a scene as makes the scales mean something.
    """
    size = {} if max_side_px is None else {"max_side_px": max_side_px}
    # As many steps as keep the timed ones within their phases, and no files.
    config = TrainConfig.preset(preset, steps=100 * n, checkpoint_every_steps=10**9, preview_every_steps=0, **size)
    inputs = Video.load(workspace / "frames"), Labels.load(workspace / "segment"), Sfm.load(workspace / "sfm")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        context = StageContext(out, ItemCache(out / "items"), device=device)
        started = time.perf_counter()
        trainer = Trainer.prepare(config, *inputs, context)
        found = {"prepare_s": time.perf_counter() - started}
        run_steps(trainer, n)  # coarse fields learn a first shape
        trainer.step = round(max(config.upsample_at) * config.steps) + 1
        spent = time_phase(trainer, n)
        found |= {"bootstrap_ms_per_step": 1000 * spent / n, "bootstrap_rays_per_s": n * config.rays_per_step / spent}
        trainer.step = trainer.schedule.round_steps[0]
        found["scales_round_s"] = seconds(lambda: trainer._learn_scales(0))
        zone = trainer.scene.zone
        if zone is None or zone.is_empty:
            raise SystemExit("no combination of scales is valid yet, so compositing cannot be timed: ask for more steps (--n)")
        trainer.step += 1
        spent = time_phase(trainer, n)
        found |= {"alternate_ms_per_step": 1000 * spent / n, "alternate_rays_per_s": n * config.rays_per_step / spent}
    found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if torch.cuda.is_available():
        found["peak_gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def run_steps(trainer: Trainer, n: int) -> None:
    for _ in range(n):
        trainer._before_step()
        trainer._field_step()
        trainer.step += 1


def time_phase(trainer: Trainer, n: int) -> float:
    run_steps(trainer, max(1, n // 3))
    return seconds(lambda: run_steps(trainer, n))


def time_compositing(n_combinations: int, n_rays: int = 1024, n_objects: int = 4, n_samples: int = 24) -> None:
    """One query composited under H combinations against H separate renderings (query and compositing)."""
    torch.manual_seed(0)
    size = FieldSize(FieldKind.GRID, 3, 4, 8, table_bits=17, colour_resolution=320, hidden=64)
    fields = [make_field(Box(torch.zeros(3), torch.ones(3)), size, 128) for _ in range(n_objects)]
    scales = torch.exp(torch.randn(n_combinations, n_objects) * 0.3)
    points = 2 * torch.rand(n_objects, n_rays * n_samples, 3) - 1

    @torch.no_grad()
    def query() -> RaySamples:
        found = [field.query(p, p) for field, p in zip(fields, points, strict=True)]
        tau = torch.stack([density.view(n_rays, n_samples) for density, _ in found], 1) * 2.0
        rgb = torch.stack([colour.view(n_rays, n_samples, 3) for _, colour in found], 1)
        depth = (1 + torch.rand(n_rays, n_objects, n_samples)).sort(-1).values
        return RaySamples(depth, tau, rgb)

    samples = query()
    one_query = seconds(query)
    one = seconds(lambda: composite(samples, scales[:1]))
    exact = seconds(lambda: [composite(samples, part) for part in scales.split(16)])
    kept = samples.compressed(8)
    compressed = seconds(lambda: [composite(kept, part) for part in scales.split(16)])
    separate = n_combinations * (one_query + one)
    rows = [
        {"way": name, "seconds": spent, "share_of_separate": spent / separate}
        for name, spent in (
            (f"{n_combinations} separate renderings of {n_rays} rays", separate),
            ("one query, all samples", one_query + exact),
            ("one query, 8 samples per object", one_query + compressed),
        )
    ]
    print(markdown(rows))
    for row in rows:
        record("compositing", row)


if __name__ == "__main__":
    main()
