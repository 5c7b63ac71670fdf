"""What many scenes buy where the geometry is perfect: the protocols of `osn eval` on exact surfaces and exact motion.

    python -m benchmarks.oracle [--seed 3] [--size 6x96x72x3] [--n 1000] [--truths 20]

The scene is synthetic (--size: frames x width x height x K), reconstructed without error, each object in a unit of its own; its
zone comes from the exact depths, its samples from the zone. What is left of the errors is the choice of the scales.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.quality import report
from benchmarks.scaling import Clip
from pipelines.artifacts import Samples
from pipelines.evaluate import EvaluateConfig, evaluate
from pipelines.scene.evidence import evidence_from_maps
from pipelines.scene.orders import order_tests
from pipelines.scene.zone import zone_at_share
from pipelines.stage import ItemCache, StageContext
from pipelines.synthetic import SceneSpec, make_scene
from pipelines.synthetic.oracle import OracleScene

NOISE_SHARE = 0.005
"""Share of the rays that a valid combination may violate."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--size", type=Clip.parse, default=Clip(6, 96, 72, 3))
    parser.add_argument("--n", type=int, default=1000, help="samples")
    parser.add_argument("--truths", type=int, default=20)
    parser.add_argument("--views", type=int, default=2)
    options = parser.parse_args()
    clip = options.size
    synthetic = make_scene(SceneSpec(options.seed, clip.k - 1, clip.frames, clip.width, clip.height, candidates=1))
    generator = np.random.default_rng(0)
    units = np.exp(np.concatenate([[0], generator.uniform(-0.7, 0.7, clip.k - 1)]))
    scene = OracleScene(synthetic, units)
    maps = scene.alone_maps(width=clip.width, frames=range(clip.frames))
    tests = order_tests(evidence_from_maps(maps, full_width=clip.width))
    scene = replace(scene, zone=zone_at_share(tests, scene.log_scale_range, NOISE_SHARE))
    assert scene.zone is not None
    samples = Samples(scene.zone.sample(options.n, generator), np.ones(options.n), np.arange(clip.k))
    with tempfile.TemporaryDirectory() as folder:
        truth = synthetic.write(Path(folder))
        context = StageContext(Path(folder), ItemCache(Path(folder)))
        config = EvaluateConfig(n_views=options.views, truths=options.truths, closest=3, meshes=False)
        tables = evaluate(
            config, scene=scene, samples=samples, sfm=scene.sfm(), labels=scene.labels(), truth=truth, context=context
        )
    report(f"exact geometry, seed {options.seed}, {clip.name}", tables, {"preset": "none", "automatic": "exact"})


if __name__ == "__main__":
    main()
