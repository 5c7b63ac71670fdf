"""Sampling from a scene whose geometry is known (a ball and a box in a room), and from evidence made by hand."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipelines.artifacts import Samples
from pipelines.errors import ReconstructionError
from pipelines.sample import SampleConfig, sample
from pipelines.scene.evidence import AloneMaps, OcclusionEvidence
from pipelines.scene.labelling import assess
from pipelines.scene.orders import order_tests
from pipelines.scene.sampling import diverse_order
from pipelines.scene.scale_network import ScaleNetwork
from pipelines.scene.validity_maps import colours, held_share
from pipelines.scene.zone import Zone, zone_at_share
from pipelines.scene.zone_sampling import Measure
from pipelines.stage import ItemCache, StageContext


class Threshold:
    """A network that believes in combinations whose column 1 is small enough."""

    def __init__(self, largest: float):
        self.largest = largest

    def score(self, log_scale: np.ndarray) -> np.ndarray:
        return np.where(log_scale[:, 1] <= self.largest, 0.9, 0.1)


@dataclass
class KnownScene:
    """A scene by its evidence alone, or by what renders it."""

    object_ids: tuple[int, ...]
    names: tuple[str, ...]
    log_scale_range: np.ndarray
    zone: Zone | None = None
    network: object | None = None
    evidence: OcclusionEvidence | None = None
    renders: object | None = None
    width: int = 100
    registered: np.ndarray = field(default_factory=lambda: np.ones((3, 8), bool))

    def alone_maps(self, *, width: int, frames: list[int]) -> AloneMaps:
        assert self.renders is not None
        maps = self.renders.alone_maps(width=width, frames=frames)
        return AloneMaps(
            *(
                getattr(maps, name)
                for name in ("depth", "opacity", "column", "frames", "intrinsics", "cam_from_obj", "registered")
            )
        )


@pytest.fixture
def context(tmp_path, notes) -> StageContext:
    return StageContext(tmp_path, ItemCache(tmp_path / "items"), notes)


def ranges(n_columns: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    limits = np.tile([low, high], (n_columns, 1))
    limits[0] = 0
    return limits


@pytest.fixture
def toy(toy_scene) -> KnownScene:
    return KnownScene(toy_scene.object_ids, toy_scene.names, ranges(3, -1.0, 1.5), renders=toy_scene, width=toy_scene.width)


@pytest.fixture
def wall(evidence_of) -> KnownScene:
    """A card at depth 1 before a wall at depths up to 2, in 100 frames: its scale is at most about 1."""
    depths = [[1.0 + r / 100, 1.0] for r in range(100)]
    return KnownScene((0, 7), ("wall", "card"), ranges(2), evidence=evidence_of(depths, [1] * 100))


def test_samples_of_a_rendered_scene_are_valid(toy, toy_scene, context):
    samples = sample(SampleConfig(n=200), scene=toy, context=context)
    assert samples.log_scale.shape == (200, 3)
    assert samples.object_ids.tolist() == [0, 1, 3]
    # Seen by the filming camera, each sampled scene shows what was filmed, but where what is hidden was never seen.
    filmed = [toy_scene.render(t=t, scale=np.ones(3)).label for t in range(8)]
    agreement = [
        np.mean([np.mean(toy_scene.render(t=t, scale=scale).label == filmed[t]) for t in range(8)])
        for scale in samples.scale[:20]
    ]
    assert min(agreement) > 0.98 and np.median(agreement) > 0.995
    # The true scales are in the zone, and the largest ones are contacts with the room.
    account = json.loads((context.out / "sample.json").read_text())
    assert all(described["scale"][0] < 1 < described["scale"][1] for described in account["objects"])
    for end in (described["high_end"] for described in account["objects"]):
        assert not end["assumed"]
        assert end["because"][0]["frame"] in range(8) and end["because"][-1]["back"] == 0
    assert account["acceptance"]["agree_with_masks"] >= 200
    assert (context.out / "validity.png").is_file() and (context.out / "agreement_03.png").is_file()


def test_the_same_seed_gives_the_same_samples(toy, context):
    config = SampleConfig(n=50, maps=False, seed=3)
    first, second = (sample(config, scene=toy, context=context) for _ in range(2))
    assert np.array_equal(first.log_scale, second.log_scale)
    other = sample(SampleConfig(n=50, maps=False, seed=4), scene=toy, context=context)
    assert not np.array_equal(first.log_scale, other.log_scale)
    loaded = Samples.load(context.out)
    assert np.array_equal(loaded.log_scale, other.log_scale) and np.array_equal(loaded.score, other.score)


def test_a_bound_and_an_assumption_by_hand(wall, context):
    samples = sample(SampleConfig(n=300, maps=False, measure=Measure.LOG), scene=wall, context=context)
    assert -1 <= samples.log_scale[:, 1].min() < -0.9
    account = json.loads((context.out / "sample.json").read_text())
    card = account["objects"][0]
    # Half a percent of 100 rays is none: the nearest wall, at the card's own depth in frame 0, is the bound.
    assert card["scale"] == pytest.approx([np.exp(-1), 1.0])
    assert card["id"] == 7 and card["high_end"]["because"][0]["text"] == "card hides wall in frame 0 at pixel (0.5, 2.5)"
    assert card["low_end"]["assumed"] and card["low_end"]["because"][0]["text"] == "the near limit of card"
    assert account["acceptance"]["share_of_uniform_draws"] == pytest.approx(0.5, abs=0.02)


def test_uniform_in_scale_or_in_log_scale(wall, context):
    log = sample(SampleConfig(n=4000, maps=False, measure=Measure.LOG), scene=wall, context=context)
    linear = sample(SampleConfig(n=4000, maps=False), scene=wall, context=context)
    assert np.median(log.log_scale[:, 1]) == pytest.approx(-0.5, abs=0.04)
    assert np.median(linear.scale[:, 1]) == pytest.approx((np.exp(-1) + 1) / 2, abs=0.03)


def test_the_network_and_the_masks_both_judge(wall, context):
    wall.network = Threshold(-0.5)
    samples = sample(SampleConfig(n=100, maps=False), scene=wall, context=context)
    assert samples.log_scale[:, 1].max() <= -0.5
    assert np.all(samples.score == 0.9)
    # A zone that is too wide is cut by the masks, if they are asked.
    tests = order_tests(wall.evidence)
    wall.network, wall.zone = None, zone_at_share(tests, ranges(2), 0.4)
    checked = sample(SampleConfig(n=500, maps=False), scene=wall, context=context)
    unchecked = sample(SampleConfig(n=500, maps=False, check_masks=False), scene=wall, context=context)
    assert checked.log_scale[:, 1].max() <= 0 < unchecked.log_scale[:, 1].max()


def test_a_network_that_rejects_everything_is_an_outcome(wall, context):
    wall.network = Threshold(-5.0)
    with pytest.raises(ReconstructionError, match="the network rejects all 2000 candidates"):
        sample(SampleConfig(max_draws=2000), scene=wall, context=context)


class Unsure(Threshold):
    """Right, but never sure."""

    def score(self, log_scale):
        return 0.6 * super().score(log_scale)


def test_a_network_that_is_never_sure_still_gives_what_is_likely(wall, context):
    wall.network = Unsure(-0.5)
    samples = sample(SampleConfig(n=50, maps=False), scene=wall, context=context)
    assert len(samples.score) == 50 and np.allclose(samples.score, 0.54)
    assert "the network is sure of no combination (score 0.9)" in context.progress.said[0]
    assert samples.log_scale[:, 1].max() <= -0.5


def test_fewer_than_wanted_are_returned_with_a_note(wall, context):
    wall.network = Threshold(-0.9)
    samples = sample(SampleConfig(n=1000, max_draws=500, maps=False), scene=wall, context=context)
    assert 20 < len(samples.score) < 100
    assert f"only {len(samples.score)} of 1000 samples" in context.progress.said[0]


def test_contradicting_masks_are_an_outcome(evidence_of, context):
    # Half the rays say the card is before the wall at less than half its scale, half the opposite.
    depths = [[1.0, 2.0]] * 50 + [[2.0, 1.0]] * 50
    evidence = evidence_of(depths, [1] * 50 + [0] * 50)
    scene = KnownScene((0, 1), ("wall", "card"), ranges(2), evidence=evidence)
    with pytest.raises(ReconstructionError, match=r"no scales agree.*card hides wall in frame.*wall hides card in frame"):
        sample(SampleConfig(), scene=scene, context=context)


def test_pairs_that_agree_alone_may_contradict_together(evidence_of, context):
    """Each pair's contradiction is small enough to be given up; over five objects they add up to too many rays."""
    depths, labels = [], []
    for r in range(400):
        k, ray = 1 + r % 5, [np.inf] * 6
        seen_in_front = (r // 5) % 20 < 19
        ray[0], ray[k] = (4.0, 2.0) if seen_in_front else (2.0, 4.0)
        depths.append(ray)
        labels.append(k)
    names = ("wall", "a", "b", "c", "d", "e")
    scene = KnownScene((0, 1, 2, 3, 4, 5), names, ranges(6, -0.5, 0.5), evidence=evidence_of(depths, labels))
    # The rays seen in the wrong order (one in twenty) fail over the whole range: no scales could help, they are left out.
    samples = sample(SampleConfig(n=20, maps=False), scene=scene, context=context)
    account = json.loads((context.out / "sample.json").read_text())
    assert len(samples.score) == 20 and account["evidence"] == {"n_rays": 380, "noise_share": 0.05, "violated_share": 0.003}


@pytest.mark.parametrize("n_columns", [1, 2, 9])
def test_any_number_of_objects(n_columns, context):
    depths = np.exp(np.random.default_rng(0).uniform(0, 0.4, (300, n_columns))).astype(np.float32)
    evidence = OcclusionEvidence(
        depth=depths if n_columns > 1 else depths[:0],
        opacity=np.ones_like(depths) if n_columns > 1 else depths[:0],
        column=depths.argmin(1).astype(np.uint8) if n_columns > 1 else np.zeros(0, np.uint8),
        frame=np.arange(len(depths) if n_columns > 1 else 0),
        xy_px=np.zeros((len(depths) if n_columns > 1 else 0, 2)),
        observed=np.ones(depths.shape if n_columns > 1 else (0, 1), bool),
        credible=np.ones(depths.shape if n_columns > 1 else (0, 1), bool),
    )
    ids = tuple(range(n_columns))
    network = ScaleNetwork(ranges(n_columns))
    scene = KnownScene(ids, tuple(f"o{k}" for k in ids), ranges(n_columns), evidence=evidence, network=network)
    samples = sample(SampleConfig(n=30, min_score=0.0, maps=n_columns < 9), scene=scene, context=context)
    assert samples.log_scale.shape == (1 if n_columns == 1 else 30, n_columns)
    if n_columns == 9:
        wrong = [np.mean((depths * scale).argmin(1) != evidence.column) for scale in samples.scale]
        assert max(wrong) <= 0.005


def test_first_samples_are_diverse():
    x = np.zeros((400, 3))
    x[:, 1:] = np.random.default_rng(0).normal(size=(400, 2)) * [1.0, 0.01]
    order = diverse_order(x)
    assert sorted(order) == list(range(400))
    head = (x[order[:12]] / np.ptp(x, axis=0).clip(1e-9))[:, 1:]
    apart = np.linalg.norm(head[:, None] - head[None], axis=-1) + np.eye(12)
    at_random = (x[:12] / np.ptp(x, axis=0).clip(1e-9))[:, 1:]
    apart_at_random = np.linalg.norm(at_random[:, None] - at_random[None], axis=-1) + np.eye(12)
    assert apart.min() > 3 * apart_at_random.min()


def test_held_share_is_the_slow_count(random_tests):
    tests = random_tests(np.random.default_rng(0), 4, 80)
    x, grid, frames = np.array([0, 0.1, -0.2, 0.3]), np.linspace(-0.8, 0.8, 17), np.unique(tests.ray_frame)
    share = held_share(tests, x, 2, grid, frames)
    for i, frame in enumerate(frames):
        rows = (tests.ray_frame[tests.ray] == frame) & ((tests.front == 2) | (tests.back == 2))
        for g, value in enumerate(grid):
            point = x.copy()
            point[2] = value
            holds = point[tests.front[rows]] - point[tests.back[rows]] <= tests.bound[rows]
            assert np.isnan(share[i, g]) if len(holds) == 0 else share[i, g] == pytest.approx(holds.mean())


def test_colours_run_from_violet_to_yellow():
    assert colours(np.array([[0.0, 1.0, np.nan]])).tolist() == [[[68, 1, 84], [253, 231, 37], [200, 200, 200]]]


def test_training_and_sampling_leave_out_the_same_rays(evidence_of, context):
    """Ten rays want the card at less than 0.74 times its scale, ten at more than 1.35 times: one group has to be left out."""
    depths = [[8.0, 1.0]] * 80 + [[0.74, 1.0]] * 10 + [[1.0, 0.74]] * 10
    evidence = evidence_of(depths, [1] * 90 + [0] * 10)
    learned = assess(order_tests(evidence), ranges(2))
    assert learned.noise_share == pytest.approx(0.1)
    for seed in range(6):
        scene = KnownScene((0, 1), ("wall", "card"), ranges(2), evidence=evidence, zone=learned.zone)
        samples = sample(SampleConfig(n=10, seed=seed, maps=False), scene=scene, context=context)
        assert len(samples.score) == 10
