"""How well the learned set of valid scales matches the true one, and what sampling it costs.

The true set is known where each object's depth alone is (DESIGN section 2), on log scales within [-0.6, 0.4] of the true
ones. Precision and recall are measured on exact uniform draws of the sets, so that they mean something at any number of
objects: truly valid combinations are drawn from the zone of the complete true geometry, which contains them all, and
filtered. Printed per scene:

    rays        tested rays, and the share of them left out as noise
    zone        precision and recall of the scale zone
    counted     of the zone's members whose rays agree with the masks (the last check of `osn sample`)
    network     of the scale network, on uniform combinations (nan where none of them is valid)
    invalid     share of 1,000 samples of `osn sample` that is truly invalid
    uniform     share of plain uniform combinations that is truly valid: the acceptance of plain rejection
    seconds     CPU time to learn (evidence, zone, labels, network), and to draw 1,000 samples

Without --trained the objects' depths are the true ones, multiplied by noise. With it, scene i is judged by the trained
scene in folder i.

    python -m benchmarks.valid_set SCENE [SCENE ...] [--noise 0 0.02] [--trained FOLDER ...]
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from benchmarks.tables import record
from pipelines.evaluation.alignment import aligned_motion
from pipelines.evaluation.valid_set import (
    LOG_SCALE_RANGE,
    TellingRays,
    draw_log_scales,
    is_valid,
    score_set,
    telling_rays,
    true_agreement,
)
from pipelines.geometry import scaled_intrinsics
from pipelines.ground_truth import GroundTruth
from pipelines.sample import SampleConfig, sample
from pipelines.scene.evidence import AloneMaps, OcclusionEvidence, evidence_from_maps
from pipelines.scene.labelling import Validity, assess, draw_candidates
from pipelines.scene.orders import order_tests
from pipelines.scene.scale_network import ScaleNetwork, ScaleNetworkConfig
from pipelines.scene.scales import LAST_ROUND
from pipelines.scene.zone import Zone, zone_at_share
from pipelines.stage import ItemCache, StageContext
from pipelines.train import TrainConfig

WIDTH_PX = 192
ASSUMED_LIMIT = 1.0
"""Near and far limits around the true log scale when the depths are the true ones."""
N_DRAWS = 5000
N_SAMPLES = 1000


@dataclass(frozen=True)
class KnownScene:
    """A scene made of the true geometry: what `pipelines.sample` needs of a trained one."""

    width: int
    object_ids: tuple[int, ...]
    names: tuple[str, ...]
    registered: Bool[np.ndarray, "K T"]
    log_scale_range: Float[np.ndarray, "K 2"]
    zone: Zone
    network: ScaleNetwork
    evidence: OcclusionEvidence
    maps: AloneMaps

    def alone_maps(self, *, width: int, frames: object) -> AloneMaps:
        """The known maps, whatever size is asked for."""
        return self.maps


def true_maps(truth: GroundTruth, depth_noise: float, seed: int = 0) -> AloneMaps:
    """Each object alone, its depth off by smooth and by independent relative noise of the given size together."""
    assert truth.depth_alone is not None and truth.segm_train is not None
    step = max(1, round(truth.width / WIDTH_PX))
    depth = truth.depth_alone[:, :, step // 2 :: step, step // 2 :: step]
    depth = np.where(depth > 0, depth, np.inf)
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.standard_normal(depth.shape), (0, 0, 4, 4))
    rough = generator.standard_normal(depth.shape)
    depth = depth * np.exp(depth_noise * (smooth / smooth.std() + rough) / 2**0.5)
    height, width = depth.shape[2:]
    return AloneMaps(
        depth=depth.astype(np.float32),
        opacity=np.isfinite(depth).astype(np.float32),
        column=truth.segm_train[:, step // 2 :: step, step // 2 :: step],
        frames=np.arange(truth.n_frames),
        intrinsics=scaled_intrinsics(truth.intrinsics, width / truth.width, height / truth.height),
        cam_from_obj=truth.cam_from_obj(),
        registered=np.ones((truth.n_objects, truth.n_frames), bool),
    )


def known_scene(truth: GroundTruth, depth_noise: float) -> KnownScene:
    """Learn the scales from the true geometry, as a round of training does from the fields."""
    limits = np.tile([-ASSUMED_LIMIT, ASSUMED_LIMIT], (truth.n_objects, 1))
    limits[0] = 0
    maps = true_maps(truth, depth_noise)
    evidence = evidence_from_maps(maps, full_width=truth.width)
    generator = np.random.default_rng(0)
    validity = assess(order_tests(evidence), limits)
    candidates = draw_candidates(validity.zone, limits, TrainConfig().combinations, generator)
    network = ScaleNetwork(limits, ScaleNetworkConfig(steps=LAST_ROUND * TrainConfig().scale_steps), seed=0)
    network.fit(candidates, validity.valid(candidates), seed=0)
    ids = tuple(range(truth.n_objects))
    registered = np.ones((truth.n_objects, truth.n_frames), bool)
    names = tuple(f"object {k}" for k in ids)
    return KnownScene(truth.width, ids, names, registered, limits, validity.zone, network, evidence, maps)


def true_log_scale(scene, truth: GroundTruth) -> Float[np.ndarray, " K"]:
    """Log scales, in the scene's units, at which every object has its true size."""
    motions = zip(scene.cam_from_obj, scene.registered, scene.object_ids, strict=True)
    units = np.array([aligned_motion(est, registered, truth, label).scale for est, registered, label in motions])
    return np.log(units / units[0])


def draw_true(rays: TellingRays, n: int, generator: np.random.Generator) -> tuple[Float[np.ndarray, "n K"], float]:
    """Exactly uniform truly valid combinations relative to the truth, and the share of valid ones among uniform ones."""
    n_columns = rays.depth_alone.shape[1]
    evidence = OcclusionEvidence(
        depth=rays.depth_alone,
        opacity=np.isfinite(rays.depth_alone).astype(np.float32),
        column=rays.labels.astype(np.uint8),
        frame=np.zeros(len(rays.labels), int),
        xy_px=np.zeros((len(rays.labels), 2)),
        observed=np.isfinite(rays.depth_alone),
        credible=np.isfinite(rays.depth_alone),
    )
    limits = np.tile(LOG_SCALE_RANGE, (n_columns, 1))
    limits[0] = 0
    outer = zone_at_share(order_tests(evidence), limits, 0.005)
    x = outer.sample(n, generator)
    valid = is_valid(true_agreement(rays.depth_alone, rays.labels, np.exp(x)))
    volume, _ = outer.volume(generator)
    return x[valid], float(valid.mean() * volume / np.prod((limits[:, 1] - limits[:, 0])[1:]))


def within(zone: Zone, centre: Float[np.ndarray, " K"]) -> Zone:
    """The part of a zone within the judged range around the true log scales."""
    bounds = zone.bounds.copy()
    bounds[1:, 0] = np.minimum(bounds[1:, 0], centre[1:] + LOG_SCALE_RANGE[1])
    bounds[0, 1:] = np.minimum(bounds[0, 1:], -centre[1:] - LOG_SCALE_RANGE[0])
    return replace(zone, bounds=bounds)


def judge(name: str, scene, rays: TellingRays, centre: Float[np.ndarray, " K"], learn_s: float) -> str:
    """One line of the table."""
    generator = np.random.default_rng(1)

    def truly(x: Float[np.ndarray, "n K"]) -> Bool[np.ndarray, " n"]:
        return is_valid(true_agreement(rays.depth_alone, rays.labels, np.exp(x - centre)))

    validity: Validity = assess(order_tests(scene.evidence), scene.log_scale_range)
    valid, uniform_share = draw_true(rays, N_DRAWS, generator)
    valid = valid + centre
    judged = within(scene.zone, centre)
    members = judged.sample(1000, generator) if not judged.is_empty else np.zeros((0, len(centre)))
    members_valid, counted = truly(members), validity.valid(members)
    uniform = draw_log_scales(N_DRAWS, len(centre), generator) + centre
    network = score_set(scene.network.score(uniform) >= 0.5, truly(uniform))
    with tempfile.TemporaryDirectory() as folder:
        context = StageContext(Path(folder), ItemCache(Path(folder)))
        started = time.process_time()
        samples = sample(SampleConfig(n=N_SAMPLES, maps=False), scene=scene, context=context)
        sample_s = time.process_time() - started
    figures = {
        "zone_precision": float(members_valid.mean()),
        "zone_recall": float(scene.zone.contains(valid).mean()),
        "network_precision": network.precision,
        "network_recall": float((scene.network.score(valid) >= 0.5).mean()),
        "invalid_share": float(1 - truly(samples.log_scale).mean()),
        "learn_s": learn_s,
        "sample_s": sample_s,
    }
    record("valid set", {"scene": name, **figures})
    cells = [
        f"{name:28s} {len(centre)}",
        f"{validity.counter.n_rays:7d} {validity.noise_share:6.2%}",
        f"{members_valid.mean():.3f} {scene.zone.contains(valid).mean():.3f}",
        f"{members_valid[counted].mean():.3f} {(scene.zone.contains(valid) & validity.valid(valid)).mean():.3f}",
        f"{network.precision:.3f} {(scene.network.score(valid) >= 0.5).mean():.3f}",
        f"{1 - truly(samples.log_scale).mean():7.2%}",
        f"{uniform_share:8.1e}",
        f"{learn_s:6.2f} {sample_s:6.3f}",
    ]
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, nargs="+", help="folders with ground truth")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.01, 0.02], help="relative depth noise")
    parser.add_argument("--trained", type=Path, nargs="+", default=[], help="trained scenes, one per scene")
    options = parser.parse_args()
    print(
        f"{'scene':28s} K |    rays  noise | zone P  R   | counted P R | network P R | invalid | uniform  | learn  sample (s)"
    )
    for i, folder in enumerate(options.scenes):
        truth = GroundTruth.load(folder)
        rays = telling_rays(truth)
        if options.trained:
            from pipelines.scene.scene import Scene

            scene = Scene.load(options.trained[i])
            columns = list(scene.object_ids)
            known = np.isin(rays.labels, columns)
            column_of = np.zeros(256, np.int64)
            column_of[columns] = np.arange(len(columns))
            rays = TellingRays(rays.depth_alone[known][:, columns], column_of[rays.labels[known]])
            print(judge(f"{folder.name} trained", scene, rays, true_log_scale(scene, truth), float("nan")))
            continue
        for depth_noise in options.noise:
            started = time.process_time()
            scene = known_scene(truth, depth_noise)
            learn_s = time.process_time() - started
            print(judge(f"{folder.name} noise {depth_noise:.0%}", scene, rays, np.zeros(truth.n_objects), learn_s), flush=True)


if __name__ == "__main__":
    main()
