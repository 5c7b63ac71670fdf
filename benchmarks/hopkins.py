"""Motion segmentation of tracked points: misclassified tracks on Hopkins155 sequences, number of motions given and found.

    python -m benchmarks.hopkins DATA_DIR

DATA_DIR holds `*_truth.mat` files with `y` (3, P, F: pixel coordinates, homogeneous), `s` (labels from 1), `width`, `height`.
Source of the data: Tron & Vidal, "A Benchmark for the Comparison of 3-D Motion Segmentation Algorithms" (CVPR 2007).
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.optimize import linear_sum_assignment

from benchmarks.tables import record
from pipelines.segmentation.bodies import verified
from pipelines.segmentation.clustering import ClusteringOptions, cluster_tracks
from pipelines.segmentation.grid_tracks import PointTracks


@dataclass(frozen=True)
class Sequence:
    """P tracks over F frames and the motion that each belongs to."""

    name: str
    tracks: PointTracks
    truth: np.ndarray
    width: float
    height: float

    @property
    def n_motions(self) -> int:
        return len(np.unique(self.truth))


def load_sequence(path: Path) -> Sequence:
    """Positions that are not finite, or have no homogeneous coordinate, count as not visible."""
    stored = loadmat(path)
    homogeneous = stored["y"].astype(float).transpose(1, 2, 0)
    visible = np.isfinite(homogeneous).all(-1) & (homogeneous[..., 2] != 0)
    xy_px = np.where(visible[..., None], homogeneous[..., :2], np.nan)
    truth = np.unique(stored["s"].ravel(), return_inverse=True)[1]
    name = path.name.removesuffix("_truth.mat")
    return Sequence(name, PointTracks(xy_px, visible), truth, *(float(stored[side].item()) for side in ("width", "height")))


def misclassified(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of tracks outside of the best one-to-one matching of groups; tracks of no group are wrong."""
    counts = np.zeros((max(found.max(), 0) + 1, truth.max() + 1))
    np.add.at(counts, (found[found >= 0], truth[found >= 0]), 1)
    return 1 - counts[linear_sum_assignment(-counts)].sum() / len(truth)


def evaluate(sequence: Sequence, n_groups: int | None, seed: int) -> tuple[float, int]:
    """Share of misclassified tracks, and the number of groups."""
    size = {"width": sequence.width, "height": sequence.height}
    rng = np.random.default_rng(seed)
    found = cluster_tracks(sequence.tracks, **size, options=ClusteringOptions(), n_groups=n_groups, rng=rng)
    if n_groups is None:
        found = verified(sequence.tracks, found, **size, rng=rng)
    return misclassified(found, sequence.truth), int(found.max()) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    print(f"{'sequence':24} {'tracks':>6} {'frames':>6} {'motions':>7} {'K given':>8} {'K found':>8} {'found':>5} {'CPU s':>6}")
    for path in sorted(arguments.data.glob("*_truth.mat")):
        sequence = load_sequence(path)
        start = time.process_time()
        given, _ = evaluate(sequence, sequence.n_motions, arguments.seed)
        unknown, n_found = evaluate(sequence, None, arguments.seed)
        seconds = (time.process_time() - start) / 2
        n_tracks, n_frames = sequence.tracks.visible.shape
        rows.append((given, unknown))
        errors = {"given_error_percent": 100 * given, "found_error_percent": 100 * unknown}
        record("hopkins", {"sequence": sequence.name, **errors, "found": n_found, "cpu_s": seconds})
        print(
            f"{sequence.name:24} {n_tracks:6} {n_frames:6} {sequence.n_motions:7} {100 * given:7.2f}% {100 * unknown:7.2f}%"
            f" {n_found:5} {seconds:6.1f}",
            flush=True,
        )
    if rows:
        mean = 100 * np.mean(rows, axis=0)
        record("hopkins", {"sequence": "mean", "given_error_percent": mean[0], "found_error_percent": mean[1]})
        print(f"{'mean':24} {'':6} {'':6} {'':7} {mean[0]:7.2f}% {mean[1]:7.2f}%")


if __name__ == "__main__":
    main()
