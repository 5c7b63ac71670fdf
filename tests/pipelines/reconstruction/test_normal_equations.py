"""Normal equations against the Jacobian by differences, and their solution against the whole matrix's."""

from dataclasses import dataclass

import numpy as np
import pytest

from pipelines.reconstruction.bundle import exp_rotation
from pipelines.reconstruction.normal_equations import (
    POINTS_AT_ONCE,
    NormalEquations,
    Sighted,
    damped,
    in_order_of_sight,
    linearised,
)

FOCAL_PX, LOSS_PX, MIN_DEPTH = 300.0, 2.0, 0.5


@dataclass(frozen=True)
class Case:
    """Sightings with errors of about one px: the state that they are linearised at, and who is seen where."""

    sighted: Sighted
    rotation: np.ndarray
    tau: np.ndarray
    points: np.ndarray

    def equations(self, free_focal: bool = True) -> NormalEquations:
        return linearised(
            *(self.sighted, self.rotation, self.tau, self.points, FOCAL_PX),
            loss_px=LOSS_PX,
            min_depth=MIN_DEPTH,
            free_focal=free_focal,
        )

    def predicted(self, step: np.ndarray) -> np.ndarray:
        """Image points (N, 2) after a step of all unknowns: poses, logarithm of the focal length, points."""
        n_pose = 6 * len(self.tau)
        pose, points = step[:n_pose].reshape(-1, 6), self.points + step[n_pose + 1 :].reshape(-1, 3)
        frame, point = self.sighted.frame, self.sighted.point
        turned = np.einsum("nij,nj->ni", (exp_rotation(pose[:, :3]) @ self.rotation)[frame], points[point])
        cam = turned + (self.tau + pose[:, 3:])[frame]
        return FOCAL_PX * np.exp(step[n_pose]) * cam[:, :2] / cam[:, 2:]

    @property
    def weight(self) -> np.ndarray:
        """Of the Cauchy loss; nothing for points that are too near."""
        error = self.predicted(np.zeros(6 * len(self.tau) + 1 + self.points.size)) - self.sighted.xy_px
        cam = np.einsum("nij,nj->ni", self.rotation[self.sighted.frame], self.points[self.sighted.point])
        near = cam[:, 2] + self.tau[self.sighted.frame, 2] <= MIN_DEPTH
        return np.where(near, 0.0, 1 / (1 + np.sum(error**2, -1) / LOSS_PX**2))


def make_case(n_frames: int, n_points: int, length: int, seed: int = 0) -> Case:
    """Each point is seen in `length` frames on end."""
    rng = np.random.default_rng(seed)
    rotation = exp_rotation(rng.normal(0, 0.2, (n_frames, 3)))
    points = rng.uniform(-1, 1, (n_points, 3))
    tau = rng.normal([0, 0, 4], 0.1, (n_frames, 3))
    frame = (rng.integers(0, n_frames - length + 1, n_points)[:, None] + np.arange(length)).ravel()
    point = np.repeat(np.arange(n_points), length)
    sighted, former = in_order_of_sight(frame, point, np.zeros((len(frame), 2)))
    assert (sighted.n_frames, sighted.n_points) == (n_frames, n_points)
    case = Case(sighted, rotation, tau, points[former])
    sighted.xy_px[:] = case.predicted(np.zeros(6 * n_frames + 1 + 3 * n_points)) + rng.normal(0, 1, (len(frame), 2))
    return case


def whole(equations: NormalEquations) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and gradient of all unknowns: poses (and focal length), then points."""
    seen, n_a = equations.sighted, len(equations.U)
    matrix = np.zeros((n_a + equations.point_gradient.size,) * 2)
    matrix[:n_a, :n_a] = equations.U
    for p, block in enumerate(equations.V):
        rows = n_a + 3 * p + np.arange(3)
        matrix[np.ix_(rows, rows)] = block
    for t, p, block in zip(seen.frame, seen.point, equations.W, strict=True):
        rows, columns = 6 * t + np.arange(6), n_a + 3 * p + np.arange(3)
        matrix[np.ix_(rows, columns)] = block
        matrix[np.ix_(columns, rows)] = block.T
    if equations.W_focal is not None:
        matrix[n_a - 1, n_a:] = matrix[n_a:, n_a - 1] = equations.W_focal.ravel()
    return matrix, np.concatenate([equations.gradient, equations.point_gradient.ravel()])


def test_matrix_and_gradient_are_those_of_the_jacobian():
    case = make_case(n_frames=4, n_points=7, length=3)
    # One point behind the frames that see it.
    case.points[2, 2] = -9
    n = 6 * 4 + 1 + 3 * 7
    step = 1e-6
    jacobian = np.stack([case.predicted(step * e) - case.predicted(-step * e) for e in np.eye(n)], -1) / (2 * step)
    weighted = jacobian * case.weight[:, None, None]
    error = case.predicted(np.zeros(n)) - case.sighted.xy_px
    matrix, gradient = whole(case.equations())
    expected = np.einsum("nia,nib->ab", weighted, jacobian)
    np.testing.assert_allclose(matrix, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(gradient, np.einsum("nia,ni->a", weighted, error), rtol=1e-5, atol=1e-2)
    assert (case.weight == 0).sum() == 3


@pytest.mark.parametrize("free_focal", [False, True])
@pytest.mark.parametrize(("n_frames", "n_points", "length"), [(6, 20, 6), (30, 3 * POINTS_AT_ONCE + 5, 8)])
def test_steps_solve_the_whole_system(free_focal, n_frames, n_points, length):
    """Tracks through the whole clip, and many that come and go: several products with frames of their own."""
    equations = make_case(n_frames, n_points, length).equations(free_focal)
    damping = 1e-2
    step, step_points = equations.eliminated(damping).step(np.arange(len(equations.U)))
    matrix, gradient = whole(equations)
    n_a = len(equations.U)
    matrix[:n_a, :n_a] = damped(equations.U, damping)
    for p, block in enumerate(damped(equations.V, damping)):
        rows = n_a + 3 * p + np.arange(3)
        matrix[np.ix_(rows, rows)] = block
    expected = np.linalg.solve(matrix, -gradient)
    np.testing.assert_allclose(step, expected[:n_a], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(step_points.ravel(), expected[n_a:], rtol=1e-6, atol=1e-9)


def test_unknowns_that_are_not_free_stay():
    equations = make_case(6, 20, 6).equations(free_focal=False)
    free = np.flatnonzero(np.arange(36) % 6 < 3)
    step, _ = equations.eliminated(1e-2).step(free)
    assert np.abs(step[free]).min() > 0
    assert not np.delete(step, free).any()


def test_a_matrix_that_is_not_positive_definite_is_refused():
    equations = make_case(6, 20, 6).equations(free_focal=False)
    equations.U[0, 0] = -1.0
    with pytest.raises(np.linalg.LinAlgError):
        equations.eliminated(0.0).step(np.arange(36))


def test_points_are_ordered_by_when_they_are_seen():
    frame, point = np.array([5, 6, 0, 1, 2, 0, 1, 3, 4]), np.array([0, 0, 1, 1, 1, 2, 2, 0, 0])
    sighted, former = in_order_of_sight(frame, point, np.stack([frame, point], -1).astype(float))
    assert former.tolist() == [2, 1, 0]
    assert sighted.point.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert sighted.frame.tolist() == [0, 1, 0, 1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(sighted.xy_px, np.stack([sighted.frame, former[sighted.point]], -1))
