"""Draws valid scale combinations from a trained scene, and accounts for them (the work behind `pipelines.sample`).

Symbols: n samples, K scene columns (0 is the background); log scales (n, K).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from pipelines.artifacts import Samples, write_json
from pipelines.errors import ReconstructionError
from pipelines.scene.evidence import OcclusionEvidence, evidence_from_maps
from pipelines.scene.labelling import MAX_NOISE_SHARE, Validity, assess, violated_pairs
from pipelines.scene.orders import OrderTests, order_tests
from pipelines.scene.scaled_scene import ScaledScene
from pipelines.scene.stratification import stratified
from pipelines.scene.validity_maps import draw_maps
from pipelines.scene.zone import Bound, Zone
from pipelines.scene.zone_sampling import Measure
from pipelines.spread import frames_of_all
from pipelines.stage import StageContext

if TYPE_CHECKING:
    from pipelines.sample import SampleConfig

LIKELY = 0.5
"""Score from which the network takes a combination for valid rather than not."""
_MAX_ORDERED = 4096
"""Beyond this many samples the rest keep the order of drawing: farthest-point ordering takes quadratic time."""


_CANDIDATES_PER_CELL, _MOST_FREE = 8, 4
"""Of evenly spread samples: candidates for each, and scales to choose, up to which spreading pays."""


@dataclass(frozen=True)
class Tally:
    """How many candidates got how far."""

    drawn: int = 0
    scored: int = 0
    """Of these the network accepted so many,"""
    agreed: int = 0
    """and of those the masks so many."""


def draw_samples(config: "SampleConfig", scene: ScaledScene, context: StageContext) -> Samples:
    """See `pipelines.sample.sample`."""
    generator = np.random.default_rng(config.seed)
    tests = order_tests(_evidence(config, scene, context))
    validity = assess(tests, scene.log_scale_range)
    zone = scene.zone or validity.zone
    zone.require_nonempty(scene.names)
    if config.check_masks:
        _require_consistent(validity, tests, scene)
    if validity.is_doubtful:
        context.progress.note(f"the scales are less certain than they look: {_worst_order(validity, tests, scene)}")
    with context.progress.task("sampling", config.n) as advance:
        log_scale, tally = _accepted(config, scene, zone, validity, generator)
        if len(log_scale) == 0 and config.min_score > LIKELY:
            likely = config.model_copy(update={"min_score": LIKELY})
            log_scale, tally = _accepted(likely, scene, zone, validity, generator)
            if len(log_scale):
                context.progress.note(
                    f"the network is sure of no combination (score {config.min_score:g}): these have at least {LIKELY:g}"
                )
        advance(len(log_scale))
    if len(log_scale) == 0:
        raise ReconstructionError(_explain_none(tally))
    if len(log_scale) < config.n and len(scene.object_ids) > 1:
        context.progress.note(f"only {len(log_scale)} of {config.n} samples: {tally.drawn} candidates yielded no more")

    log_scale = log_scale[diverse_order(log_scale)]
    score = _score(scene, log_scale)
    samples = Samples(log_scale, score.astype(float), np.array(scene.object_ids))
    samples.save(context.out)
    write_json(context.out / "sample.json", _account(config, scene, zone, validity, tally, samples, generator))
    if config.maps and len(scene.object_ids) > 1:
        draw_maps(context.out, scene=scene, zone=zone, tests=tests, log_scale=log_scale)
    return samples


def _evidence(config: "SampleConfig", scene: ScaledScene, context: StageContext) -> OcclusionEvidence:
    """The evidence of the scene's last round of training, or else fresh renders."""
    if scene.evidence is not None:
        return scene.evidence
    with context.progress.task("rendering the evidence", 1) as advance:
        frames = frames_of_all(scene.registered, config.evidence_frames)
        maps = scene.alone_maps(width=min(config.evidence_width_px, scene.width), frames=frames)
        advance(1)
    return evidence_from_maps(maps, full_width=scene.width)


def _accepted(
    config: "SampleConfig", scene: ScaledScene, zone: Zone, validity: Validity, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "n K"], Tally]:
    """Draw until there are enough, in batches sized by the acceptance so far; spread evenly where that pays."""
    n_free = len(scene.object_ids) - 1
    wanted = (config.n if n_free else 1) * _candidates_per_sample(config, n_free)
    tally, found = Tally(), [np.zeros((0, len(scene.object_ids)))]
    while tally.agreed < wanted and tally.drawn < config.max_draws:
        rate = max(tally.agreed, 1) / max(tally.drawn, 1)
        size = min(int(1.2 * (wanted - tally.agreed) / rate) + 16, 65_536, config.max_draws - tally.drawn)
        candidates = zone.sample(size, generator, config.measure)
        scored = candidates[_score(scene, candidates) >= config.min_score]
        agreed = scored[validity.valid(scored)] if config.check_masks else scored
        tally = Tally(tally.drawn + size, tally.scored + len(scored), tally.agreed + len(agreed))
        found.append(agreed)
    candidates = np.concatenate(found)[:wanted]
    if wanted <= config.n or len(candidates) < 2 * config.n:
        return candidates[: config.n], tally
    return candidates[stratified(candidates, config.n, generator)], tally


def _candidates_per_sample(config: "SampleConfig", n_free: int) -> int:
    """With many objects, or very many samples, cells would not become small compared with the set, or the time would."""
    return _CANDIDATES_PER_CELL if config.even and 0 < n_free <= _MOST_FREE and config.n <= _MAX_ORDERED else 1


def _score(scene: ScaledScene, log_scale: Float[np.ndarray, "n K"]) -> Float[np.ndarray, " n"]:
    """The network's scores; 1 where there is no network, or nothing to choose."""
    if scene.network is None or len(scene.object_ids) == 1:
        return np.ones(len(log_scale))
    return scene.network.score(log_scale)


def diverse_order(log_scale: Float[np.ndarray, "n K"]) -> Int[np.ndarray, " n"]:
    """Farthest-point order: the first is the most central, each next is the farthest from all before it.

    Distances are in units of each column's spread, so that no object counts more for being freer.
    """
    spread = np.ptp(log_scale, axis=0)
    points = log_scale / np.where(spread > 0, spread, 1.0)
    n_ordered = min(len(points), _MAX_ORDERED)
    head = points[:n_ordered]
    order = [int(np.square(head - np.median(head, axis=0)).sum(1).argmin())]
    distance = np.full(n_ordered, np.inf)
    for _ in range(n_ordered - 1):
        distance = np.minimum(distance, np.square(head - head[order[-1]]).sum(1))
        distance[order[-1]] = -np.inf
        order.append(int(distance.argmax()))
    return np.concatenate([order, np.arange(n_ordered, len(points))]).astype(int)


def _require_consistent(validity: Validity, tests: OrderTests, scene: ScaledScene) -> None:
    """Raises ReconstructionError: even the best combination violates too many rays."""
    if not validity.is_contradictory:
        return
    validity.zone.require_nonempty(scene.names)
    raise ReconstructionError(
        f"no scale combination is valid (at most {MAX_NOISE_SHARE:.1%} may fail): {_worst_order(validity, tests, scene)}"
    )


def _worst_order(validity: Validity, tests: OrderTests, scene: ScaledScene) -> str:
    """What even the best combination gets wrong, and where to look."""
    worst = violated_pairs(tests, validity.best)[:3]
    pairs = ", ".join(f"{scene.names[i]} should hide {scene.names[j]} ({share:.1%} of the rays)" for i, j, share in worst)
    return (
        f"even the best combination shows the wrong object on {validity.noise_share:.1%} of the rays: {pairs}; "
        "look at these objects' masks and poses"
    )


def _explain_none(tally: Tally) -> str:
    if tally.scored == 0:
        return (
            f"no scale combination is valid: the network rejects all {tally.drawn} candidates that the occlusions allow; "
            "train longer, or ask for less with --set sample.min_score=0.3"
        )
    return (
        f"no scale combination is valid: of {tally.drawn} candidates that the occlusions allow the network accepts "
        f"{tally.scored}, and none of these agrees with the masks; train longer"
    )


def _account(
    config: "SampleConfig",
    scene: ScaledScene,
    zone: Zone,
    validity: Validity,
    tally: Tally,
    samples: Samples,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """What sample.json holds."""
    volume, _ = zone.volume(generator, config.measure)
    limits = scene.log_scale_range[1:] if config.measure is Measure.LOG else np.exp(scene.log_scale_range[1:])
    zone_share = volume / float(np.prod(limits[:, 1] - limits[:, 0]))
    accepted = tally.agreed / max(tally.drawn, 1)
    return {
        "n": len(samples.score),
        "seed": config.seed,
        "measure": config.measure.value,
        "acceptance": {
            "drawn_from_zone": tally.drawn,
            "accepted_by_network": tally.scored,
            "agree_with_masks": tally.agreed,
            "share_of_zone": accepted,
            "share_of_uniform_draws": accepted * zone_share,
        },
        "evidence": {
            "n_rays": validity.counter.n_rays,
            "noise_share": validity.noise_share,
            "violated_share": zone.violated_share,
        },
        "objects": [_describe_object(scene, zone, samples, column) for column in range(1, len(scene.object_ids))],
    }


def _describe_object(scene: ScaledScene, zone: Zone, samples: Samples, column: int) -> dict[str, Any]:
    low, high = zone.intervals[column]
    below, above = zone.explain_interval(column)
    sampled = samples.scale[:, column]
    return {
        "id": scene.object_ids[column],
        "name": scene.names[column],
        "scale": [float(np.exp(low)), float(np.exp(high))],
        "sampled_scale": [float(sampled.min()), float(sampled.max())],
        "low_end": _describe_end(scene, below),
        "high_end": _describe_end(scene, above),
    }


def _describe_end(scene: ScaledScene, bounds: list[Bound]) -> dict[str, Any]:
    """One end of an interval: the chain of bounds that adds up to it."""
    return {
        "assumed": any(bound.assumed for bound in bounds),
        "because": [
            {
                "text": bound.describe(scene.names),
                "front": scene.object_ids[bound.front],
                "back": scene.object_ids[bound.back],
                "factor": float(np.exp(bound.limit)),
                "frame": bound.frame,
                "xy_px": bound.xy_px,
                "assumed": bound.assumed,
                "guessed": bound.guessed,
            }
            for bound in bounds
        ],
    }
