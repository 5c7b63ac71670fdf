"""How well a mesh agrees with the surface that the camera saw (F-score; Knapitsch et al., "Tanks and Temples", 2017)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipelines.geometry import invert, pixel_centres, ray_directions, transform
from pipelines.ground_truth import GroundTruth
from pipelines.meshing.mesh import Mesh

KEPT_SHARE = 0.8
"""Of the pairs of nearest points, those that take part in the registration: parts that the mesh lacks must not pull."""


@dataclass(frozen=True)
class MeshAccuracy:
    """Shares of the mesh near the truth (precision) and of the truth near the mesh (recall), and their harmonic mean."""

    precision: float
    recall: float

    @property
    def f_score(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else 0.0


def seen_surface(truth: GroundTruth, column: int, *, max_points: int = 60_000, seed: int = 0) -> Float[np.ndarray, "N 3"]:
    """Points of an object's true surface that some frame shows, in the object's true frame; at most so many."""
    assert truth.depth_train is not None and truth.segm_train is not None
    t, row, column_px = np.nonzero((truth.segm_train == column) & (truth.depth_train > 0))
    if len(t) > max_points:
        kept = np.random.default_rng(seed).choice(len(t), max_points, replace=False)
        t, row, column_px = t[kept], row[kept], column_px[kept]
    dirs = ray_directions(truth.intrinsics, pixel_centres(truth.width, truth.height)[row, column_px])
    in_camera = dirs * truth.depth_train[t, row, column_px].astype(float)[:, None]
    obj_from_cam = invert(truth.cam_from_obj()[column])[t]
    return transform(obj_from_cam, in_camera[:, None])[:, 0]


def sampled_surface(mesh: Mesh, n: int, *, seed: int = 0) -> Float[np.ndarray, "n 3"]:
    """Points evenly over the mesh's area."""
    rng = np.random.default_rng(seed)
    corners = mesh.vertices[mesh.faces].astype(float)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    chosen = corners[rng.choice(len(area), n, p=area / area.sum())]
    u, v = rng.random((2, n, 1))
    over = (u + v) > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    return chosen[:, 0] + u * (chosen[:, 1] - chosen[:, 0]) + v * (chosen[:, 2] - chosen[:, 0])


def object_size(points: Float[np.ndarray, "N 3"]) -> float:
    """Diagonal of the axis-aligned box, without the outermost thousandth of the points."""
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    return float(np.linalg.norm(high - low))


def registered(
    mesh: Mesh,
    true_points: Float[np.ndarray, "N 3"],
    *,
    true_from_mesh: Float[np.ndarray, "4 4"],
    n_samples: int = 20_000,
    rounds: int = 30,
) -> Float[np.ndarray, "4 4"]:
    """The similarity, refined by the surfaces themselves (trimmed ICP), as the benchmark does before it compares.

    A motion that is a degree off turns and shifts a shape that may be right. The truth looks for its nearest points on the
    mesh, not the other way round: the mesh may hold more than the camera saw.
    """
    from scipy.spatial import cKDTree
    from trimesh.registration import procrustes

    if len(mesh.faces) == 0:
        return true_from_mesh
    points = sampled_surface(mesh, n_samples)
    chosen = np.random.default_rng(0).permutation(len(true_points))[:n_samples]
    targets, found = true_points[chosen], np.asarray(true_from_mesh, float)
    for _ in range(rounds):
        distance, nearest = cKDTree(transform(found, points)).query(targets)
        kept = distance <= np.quantile(distance, KEPT_SHARE)
        found = np.asarray(procrustes(points[nearest[kept]], targets[kept], reflection=False, return_cost=False))
    return found


def mesh_accuracy(
    mesh: Mesh,
    true_points: Float[np.ndarray, "N 3"],
    *,
    true_from_mesh: Float[np.ndarray, "4 4"],
    tolerance: float,
    n_samples: int = 60_000,
) -> MeshAccuracy:
    """Compare after the similarity `true_from_mesh`; tolerance in true units."""
    from scipy.spatial import cKDTree

    if len(mesh.faces) == 0:
        return MeshAccuracy(0.0, 0.0)
    points = transform(true_from_mesh, sampled_surface(mesh, n_samples))
    near_truth = cKDTree(true_points).query(points, distance_upper_bound=tolerance)[0] <= tolerance
    near_mesh = cKDTree(points).query(true_points, distance_upper_bound=tolerance)[0] <= tolerance
    return MeshAccuracy(float(near_truth.mean()), float(near_mesh.mean()))
