import numpy as np
import pytest
import torch

from pipelines.scene.scale_network import ScaleNetwork, ScaleNetworkConfig

RANGES = np.array([[0.0, 0.0], [-1.0, 1.0], [-2.0, 0.5]])


def combinations(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(RANGES[:, 0], RANGES[:, 1], (n, 3))


def wedge(x: np.ndarray) -> np.ndarray:
    """A set as occlusion makes them."""
    return (x[:, 1] <= 0.4) & (x[:, 1] - x[:, 2] <= 0.9) & (x[:, 2] <= 0.2)


def test_learns_a_set():
    network = ScaleNetwork(RANGES, ScaleNetworkConfig(steps=400), seed=0)
    x = combinations(4096)
    loss = network.fit(x, wedge(x), seed=0)
    fresh = combinations(4000, seed=1)
    predicted = network.score(fresh) >= 0.5
    hits = (predicted & wedge(fresh)).sum()
    assert loss < 0.1
    assert hits / predicted.sum() > 0.95 and hits / wedge(fresh).sum() > 0.95


def test_can_reject_and_accept_everything():
    x = combinations(256)
    config = ScaleNetworkConfig(steps=60)
    for verdict in (False, True):
        network = ScaleNetwork(RANGES, config)
        network.fit(x, np.full(len(x), verdict), seed=0)
        assert np.all((network.score(x) >= 0.5) == verdict)


def test_the_same_seed_trains_the_same_network():
    x = combinations(512)
    config = ScaleNetworkConfig(steps=20)
    scores = []
    for seed in (3, 3, 4):
        network = ScaleNetwork(RANGES, config, seed=seed)
        network.fit(x, wedge(x), seed=seed)
        scores.append(network.score(x))
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_training_leaves_torch_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    network = ScaleNetwork(RANGES, ScaleNetworkConfig(steps=2), seed=1)
    network.fit(combinations(64), wedge(combinations(64)), seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_inputs_are_normalised_to_their_ranges():
    network = ScaleNetwork(RANGES)
    # The scales, and the difference of the two moving objects.
    inputs = torch.tensor([[0.0, -1.0, -2.0, -1.5], [0.0, 1.0, 0.5, 3.0]])
    assert ((inputs - network.centre) / network.half_width).tolist() == [[0, -1, -1, -1], [0, 1, 1, 1]]


def test_restored_network_scores_the_same():
    config = ScaleNetworkConfig(width=16, n_layers=2, steps=10)
    network = ScaleNetwork(RANGES, config)
    x = combinations(128)
    network.fit(x, wedge(x), seed=0)
    again = ScaleNetwork.from_state(network.state_dict(), config)
    assert np.array_equal(again.score(x), network.score(x))


@pytest.mark.parametrize("n", [0, 1])
def test_few_or_no_combinations(n):
    network = ScaleNetwork(RANGES, ScaleNetworkConfig(steps=3))
    loss = network.fit(combinations(n), np.ones(n, bool), seed=0)
    assert np.isnan(loss) == (n == 0)
    assert network.score(combinations(n)).shape == (n,)


def test_a_background_alone():
    network = ScaleNetwork(np.zeros((1, 2)), ScaleNetworkConfig(steps=20))
    network.fit(np.zeros((8, 1)), np.ones(8, bool), seed=0)
    assert network.score(np.zeros((2, 1))).min() > 0.5
