import numpy as np

from pipelines.scene.stratification import stratified


def test_each_cell_gives_one_and_every_candidate_is_as_likely() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (8 * 50, 2))
    counts = np.zeros(len(points))
    for seed in range(400):
        chosen = stratified(points, 50, np.random.default_rng(seed))
        assert len(set(chosen)) == 50
        counts[chosen] += 1
    # 400 draws of probability 1/8: mean 50, deviation 6.6.
    assert abs(counts.mean() - 50) < 1e-9
    assert abs(counts - 50).max() < 5 * 6.6


def test_even_samples_leave_smaller_gaps_than_independent_ones() -> None:
    rng = np.random.default_rng(1)
    targets = rng.uniform(0, 1, (2000, 3))

    def gap(points: np.ndarray) -> float:
        return float(np.quantile(np.linalg.norm(targets[:, None] - points, axis=2).min(1), 0.95))

    candidates = rng.uniform(0, 1, (8 * 300, 3))
    even = gap(candidates[stratified(candidates, 300, rng)])
    independent = np.mean([gap(rng.uniform(0, 1, (300, 3))) for _ in range(3)])
    assert even < 0.92 * independent


def test_numbers_that_do_not_divide_are_fine() -> None:
    points = np.random.default_rng(0).normal(size=(23, 4))
    chosen = stratified(points, 7, np.random.default_rng(0))
    assert len(set(chosen)) == 7
    assert max(chosen) < 21
