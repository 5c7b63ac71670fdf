"""The F-score of meshes, on shapes for which it is known."""

import numpy as np
import pytest
import trimesh

from pipelines.meshing.accuracy import MeshAccuracy, mesh_accuracy, object_size, registered, sampled_surface
from pipelines.meshing.mesh import Mesh


def square(side: float, height: float = 0.0) -> Mesh:
    corners = np.array([[0, 0, height], [side, 0, height], [side, side, height], [0, side, height]], float)
    return Mesh.build(corners, np.array([[0, 1, 2], [0, 2, 3]]))


def test_samples_are_even_over_the_area():
    points = sampled_surface(square(2.0), 20_000)
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=4, range=[[0, 2], [0, 2]])[0]
    assert np.abs(counts / 1250 - 1).max() < 0.15


def test_half_a_surface_has_full_precision_and_half_recall():
    truth = sampled_surface(square(2.0), 40_000)
    half = Mesh.build(square(2.0).vertices * [0.5, 1, 1], square(2.0).faces)
    found = mesh_accuracy(half, truth, true_from_mesh=np.eye(4), tolerance=0.02)
    assert found.precision > 0.99
    assert found.recall == pytest.approx(0.51, abs=0.01)
    assert found.f_score == pytest.approx(2 * found.precision * found.recall / (found.precision + found.recall))


def test_a_mesh_in_its_own_unit_is_compared_after_the_similarity():
    ball = trimesh.creation.icosphere(4, 0.5)
    mesh = Mesh.build(np.array(ball.vertices, float), np.array(ball.faces, int))
    truth = sampled_surface(mesh, 30_000) * 3.0 + [1.0, 2.0, 3.0]
    true_from_mesh = np.diag([3.0, 3.0, 3.0, 1.0])
    true_from_mesh[:3, 3] = 1.0, 2.0, 3.0
    assert mesh_accuracy(mesh, truth, true_from_mesh=true_from_mesh, tolerance=0.05).f_score > 0.99
    true_from_mesh[0, 3] = 5.0
    assert mesh_accuracy(mesh, truth, true_from_mesh=true_from_mesh, tolerance=0.05).f_score < 0.1


def test_registration_forgives_a_wrong_motion_but_not_a_wrong_shape():
    box = trimesh.creation.box((1.0, 0.7, 0.4))
    right = Mesh.build(np.array(box.vertices, float), np.array(box.faces, int))
    truth = sampled_surface(right, 30_000)
    off = trimesh.transformations.rotation_matrix(np.radians(3), [1, 2, 0.5])
    off[:3, :3] *= 1.02
    off[:3, 3] = 0.02, -0.03, 0.01
    assert mesh_accuracy(right, truth, true_from_mesh=off, tolerance=0.02).f_score < 0.6
    mended = registered(right, truth, true_from_mesh=off)
    assert mesh_accuracy(right, truth, true_from_mesh=mended, tolerance=0.02).f_score > 0.99
    flat = Mesh.build(right.vertices * [1, 1, 0.6], right.faces)
    squeezed = registered(flat, truth, true_from_mesh=np.eye(4))
    assert mesh_accuracy(flat, truth, true_from_mesh=squeezed, tolerance=0.02).f_score < 0.6


def test_nothing_scores_nothing():
    assert mesh_accuracy(Mesh.empty(), np.zeros((3, 3)), true_from_mesh=np.eye(4), tolerance=0.1) == MeshAccuracy(0.0, 0.0)
    assert MeshAccuracy(0.0, 0.0).f_score == 0.0


def test_size_ignores_a_stray_point():
    points = np.concatenate([sampled_surface(square(3.0), 5000) * [1, 4 / 3, 1], [[900.0, 0, 0]]])
    assert object_size(points) == pytest.approx(5.0, rel=0.01)
