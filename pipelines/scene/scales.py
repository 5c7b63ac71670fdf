"""One round of learning which scale combinations are valid, from the frozen fields; and drawing valid ones."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from pipelines.scene.evidence import OcclusionEvidence, evidence_from_maps
from pipelines.scene.labelling import Validity, assess, draw_candidates
from pipelines.scene.orders import order_tests
from pipelines.scene.scale_network import ScaleNetwork
from pipelines.scene.scene import Scene
from pipelines.scene.zone import Zone
from pipelines.spread import frames_of_all
from pipelines.train import TrainConfig

LAST_ROUND = 3
"""How many times longer the network trains in the last round: its answers are the ones that count."""
DRAWN = 4096
"""Combinations that are drawn from the zone after a round; training takes those that the network believes in."""
BELIEVED = 0.5


@dataclass(frozen=True)
class Round:
    """What one round learned."""

    evidence: OcclusionEvidence
    validity: Validity
    network: ScaleNetwork
    described: dict[str, Any]
    """Figures for metrics.jsonl."""
    notes: tuple[str, ...]
    """Lines for people."""


def learn(scene: Scene, config: TrainConfig, round_index: int) -> Round:
    """Render every object alone, read the order of objects, and fit zone and network to it.

    The fields are frozen meanwhile, so they are rendered once, whatever the number of combinations. Rounds before the last see
    half of the frames, and train the network less: what they learn is soon replaced. And they count only surfaces that some
    frame saw: the others are guesses that training mends where drawn scales contradict them, which they never would if these
    guesses decided what is drawn.
    """
    is_last = round_index == config.rounds
    width = min(config.evidence_width_px, scene.width)
    n_frames = config.evidence_frames if is_last else (config.evidence_frames + 1) // 2
    maps = scene.alone_maps(width=width, frames=frames_of_all(scene.registered, n_frames))
    evidence = evidence_from_maps(maps, full_width=scene.width)
    random = np.random.default_rng([config.seed, round_index])
    counted = evidence if is_last else replace(evidence, credible=evidence.credible & evidence.observed)
    validity = assess(order_tests(counted), scene.log_scale_range, assumed_columns=scene.assumed_columns)
    network = scene.network or ScaleNetwork(scene.log_scale_range, seed=config.seed).to(scene.device)
    network.config = network.config.model_copy(update={"steps": config.scale_steps * (LAST_ROUND if is_last else 1)})
    candidates = draw_candidates(validity.zone, scene.log_scale_range, config.combinations, random)
    labels = validity.valid(candidates)
    loss = network.fit(candidates, labels, seed=config.seed + round_index)
    described = {
        "rays_with_order": len(evidence.column),
        "noise_share": validity.noise_share,
        "valid_share": float(labels.mean()),
        "network_loss": loss if np.isfinite(loss) else None,
        "intervals": None if validity.zone.is_empty else validity.zone.intervals.tolist(),
    }
    return Round(evidence, validity, network, described, _notes(scene, validity))


def _notes(scene: Scene, validity: Validity) -> tuple[str, ...]:
    contradiction = validity.zone.contradiction
    if contradiction is not None:
        return (contradiction.describe(scene.names),)
    if validity.is_contradictory:
        return (f"{validity.noise_share:.1%} of the rays show the wrong object under any scales: masks or poses are wrong",)
    return ()


def drawn(scene: Scene, random: np.random.Generator) -> Float[np.ndarray, "n K"]:
    """Log scales of combinations that zone and network hold for valid, or the network's best where it believes in none.

    Drawn at once for all steps until the next round: on a GPU a step then waits for nothing, and a zone that is hard to draw
    from is drawn from once. The zone must not be empty.
    """
    assert scene.zone is not None
    candidates = scene.zone.sample(DRAWN, random)
    if scene.network is None:
        return candidates
    score = scene.network.score(candidates)
    believed = candidates[score >= BELIEVED]
    return believed if len(believed) else candidates[np.argsort(-score, kind="stable")[: DRAWN // 16]]


def restored(
    zone: Mapping[str, np.ndarray] | None, network: Mapping[str, Any] | None, device: torch.device
) -> tuple[Zone | None, ScaleNetwork | None]:
    """Zone and network of a checkpoint."""
    return (
        None if zone is None else Zone.from_arrays(zone),
        None if network is None else ScaleNetwork.from_state(network).to(device),
    )
