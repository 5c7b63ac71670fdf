"""Speed and memory of training and of compositing, as tables in Markdown.

    python -m benchmarks.training steps WORKSPACE [--preset fast] [--device auto] [--n 60]
    python -m benchmarks.training compositing [--combinations 256]

`steps` reads the frames, labels and reconstruction of a workspace and trains a few steps of each phase; `compositing` needs
nothing. Times are processor seconds on a CPU (they do not depend on what else runs) and wall seconds on a GPU.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

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
    compositing = commands.add_parser("compositing")
    compositing.add_argument("--combinations", type=int, default=256)
    options = parser.parse_args()
    if options.command == "steps":
        time_steps(options.workspace, options.preset, options.device, options.n)
    else:
        time_compositing(options.combinations)


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of `work` on a CPU; wall seconds where a GPU computes meanwhile."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def time_steps(workspace: Path, preset: str, device: str, n: int) -> None:
    """Rays and steps per second in the bootstrap and in the alternating phase, one round of the scales, and peak memory."""
    config = TrainConfig.preset(preset)
    inputs = Video.load(workspace / "frames"), Labels.load(workspace / "segment"), Sfm.load(workspace / "sfm")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        context = StageContext(out, ItemCache(out / "items"), device=device)
        trainer = Trainer.prepare(config, *inputs, context)
        print("| phase | steps/s | rays/s | seconds |\n|---|---|---|---|")
        _print_phase("bootstrap", trainer, n)
        scales = seconds(lambda: trainer._learn_scales(0))
        print(f"| one round of the scales | | | {scales:.1f} |")
        trainer.step = round((config.bootstrap_share + config.alternate_share / 2) * config.steps)
        _print_phase("alternate", trainer, n)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    on_gpu = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    print(f"\npeak memory: {peak:.2f} GiB, on the GPU {on_gpu:.2f} GiB; {inputs[0].n_frames} frames, preset {preset}")


def _print_phase(name: str, trainer: Trainer, n: int) -> None:
    def run() -> None:
        for _ in range(n):
            trainer._field_step()
            trainer.step += 1

    trainer._field_step()
    spent = seconds(run)
    rays = n * trainer.config.rays_per_step / spent
    print(f"| {name} | {n / spent:.1f} | {rays:,.0f} | {spent:.1f} |")


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
    print("| | seconds | share of separate renderings |\n|---|---|---|")
    print(f"| {n_combinations} separate renderings of {n_rays} rays | {separate:.2f} | 1 |")
    print(f"| one query, all samples | {one_query + exact:.2f} | {(one_query + exact) / separate:.4f} |")
    print(f"| one query, 8 samples per object | {one_query + compressed:.2f} | {(one_query + compressed) / separate:.4f} |")


if __name__ == "__main__":
    main()
