"""Flow of images whose motion is known, the consistency rule, and which pairs are computed."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.artifacts import Flow, Video
from pipelines.errors import InputError, MissingDependencyError
from pipelines.flow import (
    FlowConfig,
    FlowMethod,
    chained,
    compute_flow,
    consistent,
    dis_estimator,
    frame_pairs,
    resized_flow,
    working_size,
)
from pipelines.geometry import pixel_centres
from pipelines.stage import ItemCache, StageContext

WIDTH, HEIGHT = 160, 120


def texture(xy_px: np.ndarray, seed: int = 0) -> np.ndarray:
    """A smooth random pattern, defined at every (x, y), as a grey RGB image."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, 0.35, (40, 2))
    phases = rng.uniform(0, 2 * np.pi, 40)
    value = np.cos(xy_px @ waves.T + phases).sum(-1)
    return np.repeat(np.clip(128 + 12 * value, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def moved_texture(matrix: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two images of one texture, and the true flow between them: x -> matrix x + shift, about the image centre."""
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    xy = pixel_centres(WIDTH, HEIGHT) - centre
    back = (xy - shift) @ np.linalg.inv(matrix).T
    return texture(xy), texture(back), xy @ matrix.T + shift - xy


def make_video(folder: Path, images: list[np.ndarray]) -> Video:
    for t, image in enumerate(images):
        cv2.imwrite(str(folder / f"{t:06d}.png"), image[..., ::-1])
    height, width = images[0].shape[:2]
    return Video(folder, width, height, len(images), 10.0, "made.mp4")


def stage_context(folder: Path) -> StageContext:
    (folder / "flow").mkdir()
    return StageContext(folder / "flow", ItemCache(folder / "items"))


def rotation(angle_deg: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[cosine, -sine], [sine, cosine]])


@pytest.mark.parametrize(
    ("matrix", "shift"),
    [
        (np.eye(2), np.array([3.25, -1.5])),
        (rotation(3.0), np.array([0.0, 0.0])),
        (1.05 * np.eye(2), np.array([0.5, 2.0])),
    ],
    ids=["translation", "rotation", "zoom"],
)
def test_dis_recovers_a_known_motion_with_the_centre_of_rotation_at_half_pixels(matrix, shift):
    first, second, truth = moved_texture(matrix, shift)
    error = np.linalg.norm(dis_estimator()(first, second, None) - truth, axis=-1)[15:-15, 15:-15]
    assert np.median(error) < 0.05
    assert np.quantile(error, 0.95) < 0.2


def test_dis_leaves_the_guess_as_it_was():
    first, second, truth = moved_texture(np.eye(2), np.array([2.0, 1.0]))
    guess = np.zeros_like(truth, np.float32)
    assert np.abs(dis_estimator()(first, second, guess)).max() > 1
    assert not guess.any()


def test_stage_writes_both_directions_that_undo_each_other(tmp_path):
    first, second, truth = moved_texture(np.eye(2), np.array([2.0, 1.0]))
    context = stage_context(tmp_path)
    flow = compute_flow(FlowConfig(), video=make_video(tmp_path, [first, second]), context=context)
    assert flow.pairs == ((0, 1), (1, 0))
    assert Flow.load(context.out) == flow
    forward, forward_ok = flow.read(0, 1)
    backward, backward_ok = flow.read(1, 0)
    inner = np.s_[15:-15, 15:-15]
    assert np.abs(forward - truth)[inner].max() < 0.2
    assert np.abs(backward + truth)[inner].max() < 0.2
    assert forward_ok[inner].mean() > 0.99 and backward_ok[inner].mean() > 0.99
    # The last two columns and the last row leave the frame.
    assert not forward_ok[:, -1].any() and not forward_ok[-1].any()


def test_stage_is_repeatable_to_the_bit(tmp_path):
    images = [moved_texture(rotation(2.0 * t), np.zeros(2))[1] for t in range(3)]
    video = make_video(tmp_path, images)
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        flow = compute_flow(FlowConfig(strides=(1, 2)), video=video, context=stage_context(tmp_path / name))
        runs.append([flow.read(*pair)[0] for pair in flow.pairs])
    assert len(runs[0]) == 6
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)


def test_occluded_pixels_are_inconsistent(tmp_path):
    xy = pixel_centres(WIDTH, HEIGHT)
    frames = []
    for left in (50, 58):
        image = texture(xy)
        square = (xy[..., 0] > left) & (xy[..., 0] < left + 40) & (xy[..., 1] > 40) & (xy[..., 1] < 80)
        image[square] = texture(xy - [left, 0], seed=1)[square]
        frames.append(image)
    flow = compute_flow(FlowConfig(strides=(1,)), video=make_video(tmp_path, frames), context=stage_context(tmp_path))
    flow_px, ok = flow.read(0, 1)
    covered, on_square, background = np.s_[45:75, 91:97], np.s_[45:75, 55:85], np.s_[5:35, 20:140]
    assert ok[covered].mean() < 0.1
    assert ok[on_square].mean() > 0.95 and ok[background].mean() > 0.99
    np.testing.assert_allclose(np.median(flow_px[on_square], axis=(0, 1)), [8, 0], atol=0.1)
    np.testing.assert_allclose(np.median(flow_px[background], axis=(0, 1)), [0, 0], atol=0.1)


def test_chained_flow_follows_each_step_from_where_the_last_one_ends(tmp_path):
    """Horizontal stretches x -> 1.1 x, seen from pixel centres: three of them make x -> 1.331 x."""
    flow = Flow(tmp_path, ((0, 1), (1, 2), (2, 3)))
    xy = pixel_centres(40, 3)
    step = np.stack([0.1 * xy[..., 0], np.zeros_like(xy[..., 0])], -1)
    for t in range(3):
        flow.write(t, t + 1, step, np.ones((3, 40), bool))
    np.testing.assert_allclose(chained(flow, 0, 3)[:, :25, 0], 0.331 * xy[:, :25, 0], atol=0.01)
    np.testing.assert_allclose(chained(flow, 1, 2), step, atol=0.01)


def test_wide_strides_keep_a_small_object_that_moves_by_more_than_its_size(tmp_path):
    xy = pixel_centres(WIDTH, HEIGHT)
    frames = []
    for t in range(9):
        image = texture(xy)
        square = np.abs(xy - [30 + 6 * t, 60]).max(-1) < 8
        image[square] = texture(1.7 * (xy - [6 * t, 0]), seed=1)[square]
        frames.append(image)
    flow = compute_flow(FlowConfig(), video=make_video(tmp_path, frames), context=stage_context(tmp_path))
    on_square = np.s_[56:64, 26:34]
    np.testing.assert_allclose(np.median(flow.read(0, 8)[0][on_square], axis=(0, 1)), [48, 0], atol=0.3)
    np.testing.assert_allclose(np.median(flow.read(8, 0)[0][56:64, 74:82], axis=(0, 1)), [-48, 0], atol=0.3)


def test_consistency_rule_on_numbers_worked_by_hand():
    forward = np.zeros((1, 6, 2), np.float32)
    backward = np.zeros((1, 6, 2), np.float32)
    forward[0, 0], backward[0, 2] = (2, 0), (-2, 0)  # Returns exactly.
    forward[0, 1], backward[0, 3] = (2, 0), (-1, 0)  # A gap of 1 px: 1 <= 0.01 * 5 + 0.5 is false.
    forward[0, 5] = (1, 0)  # Leaves the frame.
    np.testing.assert_array_equal(consistent(forward, backward, 0.01, 0.5), [[True, False, False, False, True, False]])
    # With 1 <= 0.01 * 5 + 0.995 a gap of 1 px passes (pixels 1 and 3), the gap of 2 px at pixel 2 does not.
    np.testing.assert_array_equal(consistent(forward, backward, 0.01, 0.995), [[True, True, False, True, True, False]])


def test_consistency_looks_up_the_backward_flow_between_pixels():
    ramp = np.zeros((1, 8, 2), np.float32)
    ramp[0, :, 0] = -0.5 - 0.1 * np.arange(8)
    forward = np.zeros((1, 8, 2), np.float32)
    forward[0, 2, 0] = 0.75  # Lands at 2.75, where the backward flow is -0.775.
    gap_px = 0.025
    assert consistent(forward, ramp, 0.0, (gap_px + 1e-3) ** 2)[0, 2]
    assert not consistent(forward, ramp, 0.0, (gap_px - 1e-3) ** 2)[0, 2]


def test_pairs_of_a_short_video_worked_by_hand():
    config = FlowConfig(strides=(4, 1), starts_per_stride=2)
    assert config.strides == (1, 4)
    assert list(frame_pairs(config, 7)) == [(0, 1), (0, 4), (1, 2), (2, 3), (2, 6), (3, 4), (4, 5), (5, 6)]


def test_strides_longer_than_the_video_are_left_out():
    assert list(frame_pairs(FlowConfig(strides=(1, 2, 8)), 2)) == [(0, 1)]


def test_one_frame_has_no_flow(tmp_path):
    video = make_video(tmp_path, [texture(pixel_centres(WIDTH, HEIGHT))])
    with pytest.raises(InputError, match=r"made\.mp4 has 1 frame"):
        compute_flow(FlowConfig(), video=video, context=stage_context(tmp_path))


def test_a_shrunk_flow_is_brought_back_in_px_of_the_full_size():
    assert working_size(FlowConfig(max_side_px=640), 1280, 720) == (640, 360)
    assert working_size(FlowConfig(max_side_px=640), 320, 200) == (320, 200)
    # A flow that is linear in position: 0.1 x + 0.3 at full size, so half of it on the half-size grid.
    flow = np.zeros((20, 30, 2), np.float32)
    flow[..., 0] = (0.1 * pixel_centres(60, 40)[..., 0] + 0.3).reshape(20, 2, 30, 2).mean((1, 3)) / 2
    full = resized_flow(flow, 60, 40)
    np.testing.assert_allclose(full[1:-1, 1:-1, 0], (0.1 * pixel_centres(60, 40)[..., 0] + 0.3)[1:-1, 1:-1], atol=1e-5)


def test_large_frames_are_shrunk_before_flow_is_computed(tmp_path):
    first, second, truth = moved_texture(np.eye(2), np.array([6.0, -3.0]))
    config = FlowConfig(strides=(1,), max_side_px=80)
    flow = compute_flow(config, video=make_video(tmp_path, [first, second]), context=stage_context(tmp_path))
    error = np.linalg.norm(flow.read(0, 1)[0] - truth, axis=-1)[20:-20, 20:-20]
    assert flow.read(0, 1)[0].shape == (HEIGHT, WIDTH, 2)
    assert np.median(error) < 0.3


@pytest.mark.parametrize(("refine", "error_px"), [(False, 0.3), (True, 0.05)])
def test_raft_runs_through_the_same_stage(tmp_path, shared_data, refine, error_px):
    weights = shared_data / "weights" / "raft-small.pth"
    if not weights.is_file():
        pytest.skip("the authors' raft-small checkpoint is not on this machine")
    first, second, truth = moved_texture(np.eye(2), np.array([9.0, -4.0]))
    config = FlowConfig(method=FlowMethod.RAFT_SMALL, weights=weights, raft_iterations=8, raft_refine=refine)
    flow = compute_flow(config, video=make_video(tmp_path, [first, second]), context=stage_context(tmp_path))
    flow_px, ok = flow.read(0, 1)
    inner = np.s_[20:-20, 20:-20]
    assert np.median(np.linalg.norm(flow_px - truth, axis=-1)[inner]) < error_px
    assert ok[inner].mean() > 0.95


def test_missing_raft_weights_name_the_command_that_gets_them(tmp_path, monkeypatch):
    monkeypatch.delenv("OSN_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    image = texture(pixel_centres(WIDTH, HEIGHT))
    config = FlowConfig(method=FlowMethod.RAFT_LARGE)
    with pytest.raises(MissingDependencyError, match="osn weights pull raft-large"):
        compute_flow(config, video=make_video(tmp_path, [image, image]), context=stage_context(tmp_path))


def test_foreign_raft_weights_are_one_line(tmp_path):
    image = texture(pixel_centres(WIDTH, HEIGHT))
    config = FlowConfig(method=FlowMethod.RAFT_SMALL, weights=tmp_path / "000000.png")
    with pytest.raises(MissingDependencyError, match=r"000000\.png is not a PyTorch checkpoint"):
        compute_flow(config, video=make_video(tmp_path, [image, image]), context=stage_context(tmp_path))
