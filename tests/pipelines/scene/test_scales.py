"""What a round of the scales counts as evidence, before the last one and in it."""

import numpy as np
import pytest
import torch

from pipelines.scene import scales
from pipelines.scene.evidence import OcclusionEvidence
from pipelines.scene.scene import Scene
from pipelines.train import TrainConfig

CONFIG = TrainConfig(rounds=2, combinations=64, scale_steps=5)


class Wall(Scene):
    """Everything that a round asks for but the fields."""

    width = 64
    registered = np.ones((2, 8), bool)
    log_scale_range = np.array([[0.0, 0.0], [-3.0, 3.0]])
    assumed_columns = ()
    names = ("wall", "card")
    network = None
    device = torch.device("cpu")

    def __init__(self) -> None:
        pass

    def alone_maps(self, **options) -> None:
        pass


@pytest.fixture
def scene(monkeypatch) -> Scene:
    """A card before a wall: what it hides is at depth 4 where another frame saw it, and guessed at depth 2 elsewhere."""
    n = 400
    seen = np.arange(n) % 2 == 0
    evidence = OcclusionEvidence(
        depth=np.stack([np.where(seen, 4.0, 2.0), np.ones(n)], axis=1).astype(np.float32),
        opacity=np.ones((n, 2), np.float32),
        column=np.ones(n, np.uint8),
        frame=np.zeros(n, int),
        xy_px=np.zeros((n, 2)),
        observed=np.stack([seen, np.ones(n, bool)], axis=1),
        credible=np.ones((n, 2), bool),
    )
    monkeypatch.setattr(scales, "evidence_from_maps", lambda maps, full_width: evidence)
    return Wall()


def test_guessed_surfaces_bound_scales_in_the_last_round_only(scene):
    """A guess that decided which scales are drawn would never be contradicted by any of them."""
    first, last = (scales.learn(scene, CONFIG, index) for index in (0, 2))
    assert first.validity.zone.intervals[1, 1] == pytest.approx(np.log(4.0))
    assert last.validity.zone.intervals[1, 1] == pytest.approx(np.log(2.0))
    assert first.evidence.credible.all()


class Believer:
    """A network that believes in the nearer half of what it is asked about, or in nothing."""

    def __init__(self, most: float) -> None:
        self.most = most

    def score(self, log_scale: np.ndarray) -> np.ndarray:
        return self.most * (log_scale[:, 1] < np.log(2.0))


@pytest.mark.parametrize("most", [0.9, 0.4])
def test_training_takes_what_the_network_believes_in_most(scene, most):
    scene.zone = scales.learn(scene, CONFIG, 0).validity.zone
    scene.network = Believer(most)
    found = scales.drawn(scene, np.random.default_rng(0))
    assert scene.zone.contains(found).all() and (found[:, 1] < np.log(2.0)).all() and len(found) >= 100
    np.testing.assert_array_equal(found, scales.drawn(scene, np.random.default_rng(0)))
    scene.network = None
    assert len(scales.drawn(scene, np.random.default_rng(0))) == scales.DRAWN
