import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipelines.scene.guess_consistency import consistent_guess

WIDTH, HEIGHT, N_FRAMES = 24, 16, 8
INTRINSICS = np.array([[20.0, 0, WIDTH / 2], [0, 20.0, HEIGHT / 2], [0, 0, 1]])


def sideways(step: float = 0.1) -> Float[np.ndarray, "1 T 4 4"]:
    """A camera that moves to the right in front of what it looks at."""
    poses = np.tile(np.eye(4), (N_FRAMES, 1, 1))
    poses[:, 0, 3] = -step * np.arange(N_FRAMES)
    return poses[None]


def kept(
    guess: Float[np.ndarray, "T h w"], column: UInt8[np.ndarray, "T h w"], registered: Bool[np.ndarray, "1 T"] | None = None
) -> Float[np.ndarray, "T h w"]:
    registered = np.ones((1, N_FRAMES), bool) if registered is None else registered
    return consistent_guess(guess.astype(np.float16), column, INTRINSICS, sideways(), registered).astype(float)


def wall() -> tuple[Float[np.ndarray, "T h w"], UInt8[np.ndarray, "T h w"]]:
    shape = (N_FRAMES, HEIGHT, WIDTH)
    return np.full(shape, 4.0), np.zeros(shape, np.uint8)


def test_a_wall_that_all_frames_agree_on_stays() -> None:
    guess, column = wall()
    np.testing.assert_array_equal(kept(guess, column), guess)


def test_what_would_stand_in_front_of_what_the_others_see_goes() -> None:
    guess, column = wall()
    wrong = guess.copy()
    wrong[3, 4:8, 10:14] = 2.0
    found = kept(wrong, column)
    assert not found[3, 4:8, 10:14].any()
    found[3, 4:8, 10:14] = guess[3, 4:8, 10:14]
    np.testing.assert_array_equal(found, guess)


def test_a_near_surface_that_most_frames_confirm_stays() -> None:
    """A post at 2 in front of a wall at 4."""
    guess, column = wall()
    for t in range(N_FRAMES):
        guess[t, :, 16 - t : 20 - t] = 2.0
    post = guess == 2.0
    found = kept(guess, column)
    np.testing.assert_array_equal(found[post], 2.0)
    # A strip of the wall beside the post is seen in one frame only.
    assert np.mean(found[~post] == 4.0) > 0.9


def test_guesses_that_no_other_frame_could_judge_stay() -> None:
    guess, column = wall()
    registered = np.zeros((1, N_FRAMES), bool)
    registered[0, 2] = True
    np.testing.assert_array_equal(kept(guess, column, registered), guess)


def test_other_objects_say_nothing() -> None:
    """What moves on its own is not seen through: its depth is in another unit."""
    guess, column = wall()
    column[:, :, 12:] = 1
    guess[:, :, 12:] = 9.0
    poses = np.concatenate([sideways(), sideways(0.0)])
    found = consistent_guess(guess.astype(np.float16), column, INTRINSICS, poses, np.ones((2, N_FRAMES), bool))
    np.testing.assert_array_equal(found.astype(float), guess)
