"""The `sample` stage: as many valid scale combinations as wanted, and an account of what the video leaves open.

Candidates are drawn exactly from the scale zone, accepted by the scale network, and checked against the masks (DESIGN
section 6). Beside `samples.npz` and `samples.csv` it writes `sample.json` (intervals, what bounds them, acceptance) and
pictures of the valid set. Log scales have one column per object of the scene, column 0 being the background, 0.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from pipelines.artifacts import Samples, write_json
from pipelines.errors import ReconstructionError
from pipelines.scene.zone_sampling import Measure
from pipelines.stage import StageConfig, StageContext

if TYPE_CHECKING:
    from pipelines.scene.labelling import Validity
    from pipelines.scene.orders import OrderTests
    from pipelines.scene.scene import Scene
    from pipelines.scene.zone import Bound, Zone

_MAX_ORDERED = 4096
"""Beyond this many samples the rest keep the order of drawing: farthest-point ordering takes quadratic time."""


class SampleConfig(StageConfig):
    """How many combinations, and what makes one acceptable."""

    n: int = Field(default=1000, ge=1)
    seed: int = Field(default=0, ge=0)
    measure: Measure = Measure.LOG
    """Uniform in log scale, or in scale as in the paper."""
    min_score: float = Field(default=0.5, ge=0, le=1)
    """The network's score that a combination needs; 0 leaves the network out."""
    check_masks: bool = True
    """Also require that the combination agrees with the masks, ray by ray."""
    max_draws: int = Field(default=1_000_000, ge=1)
    """Candidates tried before giving up."""
    maps: bool = True
    """Draw the pictures of the valid set."""
    evidence_width_px: int = Field(default=160, ge=16)
    """Width at which objects are rendered for the check, when the scene holds no evidence from training."""
    evidence_frames: int = Field(default=32, ge=1)
    """Number of frames for the same purpose, evenly spread."""


@dataclass
class Tally:
    """How many candidates got how far."""

    drawn: int = 0
    scored: int = 0
    """Of these the network accepted so many,"""
    agreed: int = 0
    """and of those the masks so many."""


def sample(config: SampleConfig, *, scene: "Scene", context: StageContext) -> Samples:
    """Draw valid scale combinations and explain the valid set.

    With a background only, or a single object, there is one combination and it is returned.
    Fewer than `n` samples are returned (with a note) when `max_draws` candidates yield no more.
    Raises ReconstructionError: no combination is valid; the message names what contradicts what.
    """
    from pipelines.scene.labelling import LabelConfig, assess
    from pipelines.scene.orders import order_tests
    from pipelines.scene.validity_maps import draw_maps

    generator = np.random.default_rng(config.seed)
    tests = order_tests(_evidence(config, scene, context))
    validity = assess(tests, scene.log_scale_range, generator, LabelConfig())
    zone = scene.zone or validity.zone
    zone.require_nonempty(scene.names)
    if config.check_masks:
        _require_consistent(validity, tests, scene)
    with context.progress.task("sampling", config.n) as advance:
        log_scale, tally = _accepted(config, scene, zone, validity, generator)
        advance(len(log_scale))
    if len(log_scale) == 0:
        raise ReconstructionError(_explain_none(tally))
    if len(log_scale) < config.n and scene.n_objects > 1:
        context.progress.note(f"only {len(log_scale)} of {config.n} samples: {tally.drawn} candidates yielded no more")

    log_scale = log_scale[diverse_order(log_scale)]
    score = _score(scene, log_scale)
    samples = Samples(log_scale, score.astype(float), np.array(scene.object_ids))
    samples.save(context.out)
    write_json(context.out / "sample.json", _account(config, scene, zone, validity, tally, samples, generator))
    if config.maps and scene.n_objects > 1:
        draw_maps(context.out, scene=scene, zone=zone, tests=tests, log_scale=log_scale)
    return samples


def _evidence(config: SampleConfig, scene: "Scene", context: StageContext) -> Any:
    """The evidence of the scene's last round of training, or else fresh renders."""
    from pipelines.scene.evidence import evidence_from_maps

    if scene.evidence is not None:
        return scene.evidence
    posed = np.nonzero(scene.registered[0])[0]
    chosen = posed[np.unique(np.linspace(0, len(posed) - 1, min(config.evidence_frames, len(posed))).round().astype(int))]
    with context.progress.task("rendering the evidence", 1) as advance:
        maps = scene.alone_maps(width=min(config.evidence_width_px, scene.width), frames=chosen.tolist())
        advance(1)
    return evidence_from_maps(maps, full_width=scene.width)


def _accepted(
    config: SampleConfig, scene: "Scene", zone: "Zone", validity: "Validity", generator: np.random.Generator
) -> tuple[Float[np.ndarray, "n K"], Tally]:
    """Draw until there are enough, in batches sized by the acceptance so far."""
    wanted = config.n if scene.n_objects > 1 else 1
    tally, found = Tally(), [np.zeros((0, scene.n_objects))]
    while tally.agreed < wanted and tally.drawn < config.max_draws:
        rate = max(tally.agreed, 1) / max(tally.drawn, 1)
        size = min(int(1.2 * (wanted - tally.agreed) / rate) + 16, 65_536, config.max_draws - tally.drawn)
        candidates = zone.sample(size, generator, config.measure)
        scored = candidates[_score(scene, candidates) >= config.min_score]
        agreed = scored[validity.valid(scored)] if config.check_masks else scored
        tally = Tally(tally.drawn + size, tally.scored + len(scored), tally.agreed + len(agreed))
        found.append(agreed)
    return np.concatenate(found)[:wanted], tally


def _score(scene: "Scene", log_scale: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "n"]:
    """The network's scores; 1 where there is no network, or nothing to choose."""
    if scene.network is None or scene.n_objects == 1:
        return np.ones(len(log_scale))
    return scene.network.score(log_scale)


def diverse_order(log_scale: Float[np.ndarray, "n K"]) -> np.ndarray:
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


def _require_consistent(validity: "Validity", tests: "OrderTests", scene: "Scene") -> None:
    """Raises ReconstructionError: even the best combination violates too many rays."""
    from pipelines.scene.labelling import violated_pairs

    if not validity.is_contradictory:
        return
    validity.zone.require_nonempty(scene.names)
    worst = violated_pairs(tests, validity.best)[:3]
    pairs = ", ".join(f"{scene.names[i]} should hide {scene.names[j]} ({share:.1%} of the rays)" for i, j, share in worst)
    raise ReconstructionError(
        f"no scale combination is valid: even the best one shows the wrong object on {validity.noise_share:.1%} of the rays, "
        f"expected at most {validity.config.max_noise_share:.1%}: {pairs}; look at these objects' masks and poses"
    )


def _explain_none(tally: Tally) -> str:
    if tally.scored == 0:
        return (
            f"no scale combination is valid: the network rejects all {tally.drawn} candidates that the occlusions allow; "
            "train longer, or lower --min-score"
        )
    return (
        f"no scale combination is valid: of {tally.drawn} candidates that the occlusions allow the network accepts "
        f"{tally.scored}, and none of these agrees with the masks; train longer"
    )


def _account(
    config: SampleConfig,
    scene: "Scene",
    zone: "Zone",
    validity: "Validity",
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
        "objects": [_describe_object(scene, zone, samples, column) for column in range(1, scene.n_objects)],
    }


def _describe_object(scene: "Scene", zone: "Zone", samples: Samples, column: int) -> dict[str, Any]:
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


def _describe_end(scene: "Scene", bounds: "list[Bound]") -> dict[str, Any]:
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
            }
            for bound in bounds
        ],
    }
