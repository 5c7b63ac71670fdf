"""Tracks on a clip whose motion is known exactly: one texture slides and turns over another."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.artifacts import Flow, Labels, Tracks, Video
from pipelines.errors import WorkspaceError
from pipelines.stage import ItemCache, StageContext
from pipelines.tracking.coverage import new_points, spacing_px
from pipelines.tracking.follow import flow_at, label_at
from pipelines.tracking.patches import align, make_templates, sample
from pipelines.tracks import TracksConfig, build_tracks, key_frames

WIDTH, HEIGHT, N_FRAMES = 160, 120, 9
OBJECT = (50, 40, 48, 40)
"""Left, top, width, height of the object in frame 0."""


def texture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.clip((smooth - smooth.mean()) * 4 + 128, 0, 255)


def object_motion(t: int) -> np.ndarray:
    """2 x 3 affine map of pixel coordinates from frame 0 to frame t: a turn about the object's centre and a shift."""
    centre = np.array([OBJECT[0] + OBJECT[2] / 2, OBJECT[1] + OBJECT[3] / 2])
    angle = np.radians(2.0 * t)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([turn, (centre - turn @ centre + [1.6 * t, 0.7 * t])[:, None]], 1)


def background_motion(t: int) -> np.ndarray:
    return np.array([[1.0, 0, -0.8 * t], [0, 1, 0.3 * t]])


def apply(motion: np.ndarray, xy_px: np.ndarray) -> np.ndarray:
    return xy_px @ motion[:, :2].T + motion[:, 2]


def inverse(motion: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(motion[:, :2])
    return np.concatenate([linear, (-linear @ motion[:, 2])[:, None]], 1)


def centres() -> np.ndarray:
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    return np.stack([x, y], -1).astype(np.float64)


def picture(t: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame t and its labels, by looking up every pixel's centre in frame 0."""
    back = apply(inverse(background_motion(t)), centres())
    on_object = apply(inverse(object_motion(t)), centres())
    x, y, w, h = OBJECT
    label = ((on_object >= [x, y]) & (on_object <= [x + w, y + h])).all(-1)
    pictures = [
        cv2.remap(image, *np.moveaxis((xy - 0.5).astype(np.float32), -1, 0), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        for image, xy in ((texture(0), back), (texture(1), on_object))
    ]
    return np.clip(np.where(label, pictures[1], pictures[0]), 0, 255).astype(np.uint8), label.astype(np.uint8)


class Clip:
    """The clip on disk."""

    def __init__(self, folder: Path, hidden: tuple[int, ...] = (), drift_px: float = 0.0):
        self.frames, self.flow_folder = folder / "frames", folder / "flow"
        self.frames.mkdir(parents=True)
        self.flow_folder.mkdir()
        self.video = Video(self.frames, WIDTH, HEIGHT, N_FRAMES, 10.0, "clip")
        maps = []
        for t in range(N_FRAMES):
            image, label = picture(t)
            cv2.imwrite(str(self.video.path(t)), cv2.merge([image] * 3))
            maps.append(np.full_like(label, 255) if t in hidden else label)
        self.labels = Labels(np.stack(maps), ("background", "square"))
        self.flow = self._write_flow(maps, drift_px)

    def _write_flow(self, maps: list[np.ndarray], drift_px: float) -> Flow:
        pairs = [(t, u) for t in range(N_FRAMES) for u in range(N_FRAMES) if abs(t - u) in (1, 2, 4)]
        flow = Flow(self.flow_folder, tuple(pairs))
        for t, u in pairs:
            _, label = picture(t)
            moved = [apply(motion(u), apply(inverse(motion(t)), centres())) for motion in (background_motion, object_motion)]
            exact = np.where(label[..., None] == 1, moved[1], moved[0]) - centres()
            flow.write(t, u, (exact + drift_px).astype(np.float32), np.ones(label.shape, bool))
        return flow


def built(clip: Clip, out: Path, **options) -> Tracks:
    out.mkdir()
    context = StageContext(out, ItemCache(out / "items"))
    config = TracksConfig(tracks_per_object=150, min_spacing_px=4, **options)
    return build_tracks(config, video=clip.video, flow=clip.flow, labels=clip.labels, context=context)


def errors_px(tracks: Tracks) -> np.ndarray:
    """Distance of every observation from where its track's first observation truly goes."""
    error = np.zeros(len(tracks.track))
    for p in range(len(tracks.object_id)):
        rows = np.flatnonzero(tracks.track == p)
        motion = object_motion if tracks.object_id[p] == 1 else background_motion
        origin = apply(inverse(motion(int(tracks.frame[rows[0]]))), tracks.xy_px[rows[0]].astype(float))
        for n in rows:
            error[n] = np.linalg.norm(apply(motion(int(tracks.frame[n])), origin) - tracks.xy_px[n])
    return error


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Clip:
    return Clip(tmp_path_factory.mktemp("clip"))


def test_tracks_follow_both_motions_to_a_small_fraction_of_a_pixel(clip, tmp_path):
    tracks = built(clip, tmp_path / "out")
    error = errors_px(tracks)
    assert np.median(error) < 0.05
    assert np.percentile(error, 95) < 0.3
    lengths = np.bincount(tracks.track)
    assert np.median(lengths[tracks.object_id == 1]) == N_FRAMES
    assert (tracks.object_id == 1).sum() > 40
    again = Tracks.load(tmp_path / "out")
    np.testing.assert_array_equal(again.xy_px, tracks.xy_px)


def test_biased_flow_does_not_make_tracks_drift(tmp_path):
    tracks = built(Clip(tmp_path / "clip", drift_px=0.4), tmp_path / "out")
    assert np.median(errors_px(tracks)) < 0.05


def test_no_observation_on_another_label_or_at_an_outline(clip, tmp_path):
    tracks = built(clip, tmp_path / "out", border_px=2)
    for t in range(N_FRAMES):
        rows = tracks.frame == t
        inner = cv2.erode((clip.labels.maps[t] == 1).astype(np.uint8), np.ones((5, 5), np.uint8))
        on_object = tracks.object_id[tracks.track[rows]] == 1
        np.testing.assert_array_equal(label_at(inner, tracks.xy_px[rows])[on_object], 1)
        np.testing.assert_array_equal(label_at(clip.labels.maps[t], tracks.xy_px[rows]), on_object.astype(np.uint8))


def test_wide_strides_carry_tracks_over_an_occlusion(tmp_path):
    tracks = built(Clip(tmp_path / "clip", hidden=(4,)), tmp_path / "out")
    assert not np.any(tracks.frame == 4)
    spans = [np.ptp(tracks.frame[tracks.track == p]) for p in range(len(tracks.object_id))]
    assert np.median(spans) == N_FRAMES - 1
    assert np.median(errors_px(tracks)) < 0.05


def test_same_input_same_tracks(clip, tmp_path):
    first, second = built(clip, tmp_path / "a"), built(clip, tmp_path / "b")
    np.testing.assert_array_equal(first.xy_px, second.xy_px)


def test_nothing_to_follow_gives_no_tracks(tmp_path):
    clip = Clip(tmp_path / "clip", hidden=tuple(range(N_FRAMES)))
    tracks = built(clip, tmp_path / "out")
    assert len(tracks.object_id) == 0
    assert len(tracks.track) == 0


def test_sampling_puts_pixel_centres_at_one_half():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    xy_px = np.array([[[0.5, 0.5], [3.5, 2.5], [1.0, 0.5], [2.5, 2.0]]], np.float32)
    np.testing.assert_allclose(sample(image, xy_px), [[0, 11, 0.5, 8.0]], atol=0.05)


def test_flow_is_interpolated_and_labels_are_not():
    flow_px = np.zeros((2, 2, 2), np.float32)
    flow_px[:, 1, 0] = 4.0
    ok = np.array([[True, True], [True, False]])
    values, consistent = flow_at(flow_px, np.packbits(ok, axis=1), np.array([[1.0, 0.5], [0.75, 0.5]], np.float32))
    np.testing.assert_allclose(values, [[2, 0], [1, 0]])
    assert not consistent.any()
    labels = np.array([[1, 2], [3, 4]], np.uint8)
    points = np.array([[0.5, 0.5], [1.99, 0.99], [0.0, 1.0], [-0.1, 0.5], [2.0, 0.5]], np.float32)
    np.testing.assert_array_equal(label_at(labels, points), [1, 2, 3, 255, 255])


@pytest.mark.parametrize("order", ["C", "F"])
def test_flow_is_read_in_place(tmp_path, monkeypatch, order):
    """The same values as reading it whole, and no file is read whole."""
    rng = np.random.default_rng(0)
    flow = Flow(tmp_path, ((0, 1),))
    flow_px = np.asarray(rng.normal(size=(11, 21, 2)) * 9, order=order)
    flow.write(0, 1, flow_px, rng.random((11, 21)) < 0.8)
    whole, ok = flow.read(0, 1)
    monkeypatch.setattr(np, "load", None)
    mapped, bits = flow.mapped(0, 1, flow.places(0, 1))
    np.testing.assert_array_equal(mapped, whole)
    xy_px = rng.uniform(0, [21, 11], (300, 2)).astype(np.float32)
    _, consistent = flow_at(mapped, bits, xy_px)
    column = np.minimum(np.clip(xy_px[:, 0] - 0.5, 0, 20).astype(int), 19)
    row = np.minimum(np.clip(xy_px[:, 1] - 0.5, 0, 10).astype(int), 9)
    np.testing.assert_array_equal(
        consistent, ok[row, column] & ok[row + 1, column] & ok[row, column + 1] & ok[row + 1, column + 1]
    )
    assert 0 < consistent.sum() < 300
    assert isinstance(mapped.base, np.memmap)


def test_damaged_flow_is_one_clear_error(tmp_path):
    flow = Flow(tmp_path, ((0, 1),))
    with pytest.raises(WorkspaceError, match="is missing: run the stage"):
        flow.places(0, 1)
    flow.write(0, 1, np.zeros((4, 5, 2)), np.ones((4, 5), bool))
    flow.path(0, 1).write_bytes(flow.path(0, 1).read_bytes()[:300])
    with pytest.raises(WorkspaceError, match="cannot be read"):
        flow.places(0, 1)


def test_alignment_finds_a_known_affine_motion():
    image, xy_px = texture(3), np.array([[60.0, 50.0], [90.0, 70.0]], np.float32)
    templates, good = make_templates(image, np.ones(image.shape, bool), xy_px, 6)
    assert good.all()
    motion = np.array([[1.03, 0.05, 0.0], [-0.04, 0.98, 0.0]])
    source = (apply(inverse(motion), centres()) - 0.5).astype(np.float32)
    seen = cv2.remap(image, source[..., 0], source[..., 1], cv2.INTER_CUBIC)
    expected = apply(motion, xy_px.astype(float))
    start = (expected + np.array([[0.9, -0.7], [-0.6, 0.8]])).astype(np.float32)
    found, affine, correlation = align(templates, seen, start, np.tile(np.eye(2, dtype=np.float32), (2, 1, 1)))
    np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_allclose(affine, np.tile(motion[:, :2], (2, 1, 1)), atol=0.02)
    assert correlation.min() > 0.98


def test_spacing_fills_the_area_with_the_wanted_tracks():
    assert spacing_px(10_000, 100, 2.0) == pytest.approx(10.0)
    assert spacing_px(100, 1000, 2.0) == 2.0


def test_new_points_avoid_occupied_cells():
    image, labels = texture(4), np.zeros((HEIGHT, WIDTH), np.uint8)
    none = np.zeros((0, 2), np.float32), np.zeros(0, np.uint8)
    points, ids = new_points(image, labels, *none, tracks_wanted=48, min_spacing_px=2.0)
    assert 48 <= len(points) <= 80
    again, _ = new_points(image, labels, points, ids, tracks_wanted=48, min_spacing_px=2.0)
    assert len(again) == 0


def test_key_frames_start_in_the_middle():
    assert key_frames(9, 2) == [4, 0, 6, 2, 8]
    assert sorted(key_frames(32, 5)) == [0, 5, 10, 15, 20, 25, 30, 31]
    assert key_frames(1, 3) == [0]
