from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.segmentation import clustering
from pipelines.segmentation.clustering import ClusteringOptions, cluster_tracks
from pipelines.segmentation.grid_tracks import PointTracks
from pipelines.segmentation.grouping import Groups, neighbour_links
from pipelines.segmentation.refinement import energy
from pipelines.segmentation.rigidity import RigidityTest, frame_triplets

WIDTH, HEIGHT, FOCAL = 400.0, 300.0, 350.0


def moving_scene(n_movers: int, *, n_frames: int = 16, noise_px: float = 0.05, seed: int = 0) -> tuple[PointTracks, np.ndarray]:
    """Tracks of a static room with depth, seen by a moving camera, and of movers that hover in it; and their truth."""
    rng = np.random.default_rng(seed)
    room = np.stack([rng.uniform(-3, 3, 300), rng.uniform(-2.2, 2.2, 300), rng.uniform(4, 7, 300)], 1)
    bodies, truth = [room], [np.zeros(300, int)]
    for k in range(n_movers):
        place = np.array([1.6 * (k - (n_movers - 1) / 2), 0.3 * (-1) ** k, 3.0])
        bodies.append(rng.uniform(-0.5, 0.5, (50, 3)) + place)
        truth.append(np.full(50, k + 1))
    tracks = np.zeros((300 + 50 * n_movers, n_frames, 2))
    for t in range(n_frames):
        moved = []
        for k, points in enumerate(bodies):
            centre = points.mean(0)
            turn = Rotation.from_rotvec([0.01 * t * k, 0.02 * t * (k > 0) * (-1) ** k, 0.015 * t * (k > 1)])
            drift = np.array([0.0, 0.03 * (-1) ** k, 0.05]) * t * (k > 0)
            moved.append(turn.apply(points - centre) + centre + drift)
        turned = Rotation.from_rotvec([0.002 * t, 0.004 * t, 0]).apply(np.concatenate(moved))
        seen = turned + np.array([0.05, 0.01, -0.03]) * t
        tracks[:, t] = FOCAL * seen[:, :2] / seen[:, 2:] + [WIDTH / 2, HEIGHT / 2]
    tracks += rng.normal(0, noise_px, tracks.shape)
    return PointTracks(tracks, np.ones(tracks.shape[:2], bool)), np.concatenate(truth)


def clustered(tracks: PointTracks, n_groups: int | None = None) -> np.ndarray:
    return cluster_tracks(
        tracks,
        width=WIDTH,
        height=HEIGHT,
        options=ClusteringOptions(hypotheses=100, gaps_per_stride=6),
        n_groups=n_groups,
        rng=np.random.default_rng(0),
    )


def agreement(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of tracks whose group is the most frequent one of their body, when every body has its own; else 0."""
    most = [int(np.bincount(found[truth == k] + 1).argmax()) - 1 for k in range(truth.max() + 1)]
    return float(np.mean(found == np.array(most)[truth])) if len(set(most)) == len(most) else 0.0


@pytest.mark.parametrize("n_movers", [0, 2])
def test_movers_are_found_and_counted(n_movers: int) -> None:
    tracks, truth = moving_scene(n_movers)
    found = clustered(tracks)
    assert found.max() == n_movers
    assert agreement(found, truth) > 0.98
    assert np.bincount(found[truth == 0] + 1).argmax() == 1, "the room is group 0"


def test_tracks_need_not_span_the_clip() -> None:
    tracks, truth = moving_scene(2, n_frames=24)
    rng = np.random.default_rng(5)
    start = rng.integers(0, 10, len(truth))
    length = rng.integers(10, 16, len(truth))
    frames = np.arange(24)
    visible = (frames >= start[:, None]) & (frames < (start + length)[:, None])
    xy_px = np.where(visible[..., None], tracks.xy_px, np.nan)
    assert agreement(clustered(PointTracks(xy_px, visible)), truth) > 0.95


def test_the_number_of_groups_can_be_given() -> None:
    tracks, _ = moving_scene(2)
    assert clustered(tracks, n_groups=2).max() == 1
    assert clustered(tracks, n_groups=1).max() == 0


def test_same_seed_same_groups() -> None:
    tracks, _ = moving_scene(2)
    np.testing.assert_array_equal(clustered(tracks), clustered(tracks))


@pytest.mark.slow
def test_hopkins_sequences(shared_data: Path) -> None:
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
    from hopkins import evaluate, load_sequence

    for name, limit in (("kanatani1", 0.01), ("three-cars", 0.01)):
        error, n_found = evaluate(load_sequence(shared_data / "data" / "tracks" / f"{name}_truth.mat"), None, 0)
        assert error <= limit
        assert n_found == {"kanatani1": 2, "three-cars": 3}[name]


@pytest.mark.parametrize("n_tracks", [0, 1, 5, 40])
def test_tracks_that_cannot_be_compared_are_one_group(n_tracks: int) -> None:
    """Too few of them, or each in frames of its own."""
    visible = np.eye(40, dtype=bool)[:n_tracks]
    tracks = PointTracks(np.random.default_rng(0).uniform(0, 100, (n_tracks, 40, 2)), visible)
    rng = np.random.default_rng(0)
    found = cluster_tracks(tracks, width=100.0, height=100.0, options=ClusteringOptions(), n_groups=None, rng=rng)
    assert found.tolist() == [0] * n_tracks


def test_the_truth_has_the_lowest_energy() -> None:
    """Below that of two bodies taken for one, and of a body cut in two."""
    tracks, truth = moving_scene(2)
    test = RigidityTest(tracks.xy_px, tracks.visible, frame_triplets(16, (2, 5), 6), 0.1)
    links = neighbour_links(tracks.xy_px, tracks.visible, 2)
    affinity = np.where(truth[:, None] == truth, 0.5, 0.05).astype(np.float32)

    def of(label: np.ndarray) -> float:
        return energy(Groups(test, affinity, links, label))

    cut = np.where((truth == 0) & (tracks.xy_px[:, 0, 0] < WIDTH / 2), 3, truth)
    assert of(truth) < of(np.where(truth == 1, 0, truth))
    assert of(truth) < of(cut) - 80


def test_of_several_starts_the_best_counts_and_two_that_agree_are_enough(monkeypatch) -> None:
    tracks, truth = moving_scene(2)
    starts = [np.where(truth == 1, 0, truth), truth, 2 - truth]
    waiting = list(starts)
    monkeypatch.setattr(clustering, "spectral_clusters", lambda *_: waiting.pop(0).copy())
    monkeypatch.setattr(clustering, "_settle", lambda *_: None)
    assert agreement(clustered(tracks), truth) == 1
    assert not waiting
    waiting += [truth, 2 - truth, starts[0]]
    clustered(tracks)
    assert len(waiting) == 1
