import numpy as np

from pipelines.geometry import pixel_centres
from pipelines.scene.depth_guess import depth_guess


def test_a_plane_is_interpolated_exactly() -> None:
    """1 / z of a plane is linear in the pixel; its corners and one inner point give it everywhere."""
    xy_px = np.array([[0.0, 0.0], [16.0, 0.0], [0.0, 12.0], [16.0, 12.0], [7.0, 5.0]])

    def inverse_depth(at: np.ndarray) -> np.ndarray:
        return 0.2 + 0.01 * at[..., 0] + 0.02 * at[..., 1]

    column = np.zeros((2, 12, 16), np.uint8)
    guess = depth_guess(column, np.full(5, 1), xy_px, np.zeros(5, int), 1 / inverse_depth(xy_px))
    np.testing.assert_allclose(guess[1], 1 / inverse_depth(pixel_centres(16, 12)), rtol=2e-3)
    assert not guess[0].any()


def test_objects_do_not_mix_and_few_points_are_enough() -> None:
    column = np.zeros((1, 4, 8), np.uint8)
    column[0, :, 4:] = 1
    column[0, 0] = 255
    guess = depth_guess(column, np.zeros(2, int), np.array([[1.0, 1.0], [6.0, 2.0]]), np.array([0, 1]), np.array([2.0, 5.0]))
    assert set(np.unique(guess[0, 1:, :4])) == {2.0}
    assert set(np.unique(guess[0, 1:, 4:])) == {5.0}
    assert not guess[0, 0].any()


def test_nothing_is_guessed_across_a_jump() -> None:
    """Two steps of a staircase: between the points of one and the other there is no guess, on either of them there is."""
    centres_px = pixel_centres(24, 12)[::2, ::2].reshape(-1, 2)
    depth = np.where(centres_px[:, 0] < 11.9, 2.0, 6.0)
    column = np.zeros((1, 12, 24), np.uint8)
    n = len(centres_px)
    guess = depth_guess(column, np.zeros(n, int), centres_px, np.zeros(n, int), depth)[0]
    np.testing.assert_allclose(guess[1:-1, 1:10], 2.0, rtol=1e-3)
    np.testing.assert_allclose(guess[1:-1, 13:22], 6.0, rtol=1e-3)
    assert not guess[2:10, 11].any()
