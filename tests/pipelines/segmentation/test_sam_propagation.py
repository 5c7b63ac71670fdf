"""Identities through occlusion, drift and re-linking, with a predictor that segments by colour and flow that is known."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.artifacts import Flow, Video
from pipelines.errors import UsageError
from pipelines.segmentation.sam_propagation import (
    Propagation,
    colours_of,
    first_prompts,
    grown,
    interior_points,
    iou,
    segment_with_sam,
    segment_with_sam2,
    similarity,
    surest,
)
from third_party.prompt import Prediction, Prompt

WIDTH, HEIGHT = 96, 48
GREY, RED, GREEN, BAR = (90, 90, 90), (200, 30, 30), (30, 200, 30), (30, 30, 160)
SIDE = 14


class ByColour:
    """Answers with the connected region of one colour that holds most positive points, or fills most of the box."""

    def __init__(self) -> None:
        self.asked: list[Prompt] = []
        self.images = 0

    def set_image(self, image):
        self.image = image
        self.images += 1

    def prior(self, mask):
        return np.where(mask, 1, -1).astype(np.float32)[:8, :8]

    def predict(self, prompt):
        self.asked.append(prompt)
        points = prompt.points_px[prompt.positive]
        if len(points):
            colours = [tuple(self.image[int(y), int(x)]) for x, y in points]
            colour = max(set(colours), key=colours.count)
        else:
            x0, y0, x1, y1 = prompt.box_px.round().astype(int)
            inside = self.image[y0:y1, x0:x1].reshape(-1, 3)
            inside = inside[(inside != GREY).any(1) & (inside != BAR).any(1)]
            if not len(inside):
                return self._answer(np.zeros(self.image.shape[:2], bool), 0.1)
            found, counts = np.unique(inside, axis=0, return_counts=True)
            colour = tuple(found[counts.argmax()])
        return self._answer((self.image == colour).all(-1), 0.95)

    def _answer(self, mask, score):
        return Prediction(np.where(mask, 3.0, -3.0).astype(np.float32), score, np.zeros((8, 8), np.float32))


class Everything(ByColour):
    """A predictor that always answers with the whole image."""

    def predict(self, prompt):
        return self._answer(np.ones(self.image.shape[:2], bool), 0.99)


class Scene:
    """Squares that move by whole pixels on grey, a bar in front of all; their true masks and flow."""

    def __init__(self, lefts: dict[int, list[int]], bar: tuple[int, int] | None = None, drift_px: float = 0.0) -> None:
        self.lefts, self.bar, self.drift_px = lefts, bar, drift_px
        self.n_frames = len(next(iter(lefts.values())))

    def labels(self, t: int) -> np.ndarray:
        """Object ids, 200 for the bar."""
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        for k, lefts in self.lefts.items():
            top = 6 + 20 * (k - 1)
            labels[top : top + SIDE, max(0, lefts[t]) : max(0, lefts[t] + SIDE)] = k
        if self.bar:
            labels[:, self.bar[0] : self.bar[1]] = 200
        return labels

    def image(self, t: int) -> np.ndarray:
        labels = self.labels(t)
        image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        for label, colour in ((0, GREY), (1, RED), (2, GREEN), (200, BAR)):
            image[labels == label] = colour
        return image

    def flow(self, t: int, u: int) -> tuple[np.ndarray, np.ndarray]:
        """True flow plus a drift of adjacent pairs; consistent where the same thing is seen at the target."""
        labels, there = self.labels(t), self.labels(u)
        flow_px = np.zeros((HEIGHT, WIDTH, 2))
        for k, lefts in self.lefts.items():
            flow_px[labels == k, 0] = lefts[u] - lefts[t]
        column = np.arange(WIDTH) + flow_px[..., 0].astype(int)
        inside = (column >= 0) & (column < WIDTH)
        ok = inside & (there[np.arange(HEIGHT)[:, None], column.clip(0, WIDTH - 1)] == labels)
        flow_px[..., 0] += self.drift_px * np.sign(t - u) * (abs(t - u) == 1)
        return flow_px, ok

    def on_disk(self, folder: Path, strides: tuple[int, ...]) -> tuple[Video, Flow]:
        for t in range(self.n_frames):
            cv2.imwrite(str(folder / f"{t:06d}.png"), self.image(t)[..., ::-1])
        pairs = [(t, u) for t in range(self.n_frames) for u in range(self.n_frames) if abs(t - u) in strides]
        flow = Flow(folder, tuple(pairs))
        for t, u in pairs:
            flow.write(t, u, *self.flow(t, u))
        return Video(folder, WIDTH, HEIGHT, self.n_frames, 10.0, "made.mp4"), flow

    def agreement(self, maps: np.ndarray, k: int) -> list[float]:
        return [iou(maps[t] == k, self.labels(t) == k) for t in range(self.n_frames)]


def click(x: float, y: float) -> Prompt:
    return Prompt(np.array([[x, y]], float), np.array([True]))


def test_two_objects_are_followed_both_ways_from_one_frame(tmp_path):
    scene = Scene({1: [10 + 3 * t for t in range(7)], 2: [60 - 4 * t for t in range(7)]})
    video, flow = scene.on_disk(tmp_path, (1, 2))
    predictor = ByColour()
    found = segment_with_sam(video, flow, {3: {1: click(25.5, 12.5), 2: click(52.5, 32.5)}}, predictor)
    assert min(scene.agreement(found.maps, 1)) == 1.0 and min(scene.agreement(found.maps, 2)) == 1.0
    assert not any(flags.any() for flags in (*found.hidden.values(), *found.corrected.values()))
    assert predictor.images == 7


def test_prompts_carry_points_box_and_prior_and_a_point_on_the_neighbour(tmp_path):
    scene = Scene({1: [10, 12], 2: [10, 12]})
    video, flow = scene.on_disk(tmp_path, (1,))
    predictor = ByColour()
    masks = {k: scene.labels(0) == k for k in (1, 2)}
    segment_with_sam(video, flow, {0: masks}, predictor, Propagation(box_margin=0.5, points=2))
    prompt = predictor.asked[2]
    assert prompt.positive.tolist() == [True, True, False]
    on_first, on_second = prompt.points_px[0], prompt.points_px[2]
    assert scene.labels(1)[int(on_first[1]), int(on_first[0])] == 1
    np.testing.assert_allclose(prompt.box_px, [5, 0, 33, 27])
    assert prompt.logits is not None and scene.labels(1)[int(on_second[1]), int(on_second[0])] == 2


def test_identity_survives_an_occlusion_that_wide_strides_bridge(tmp_path):
    scene = Scene({1: [4 + 6 * t for t in range(10)]}, bar=(30, 50))
    hidden = [not (scene.labels(t) == 1).any() for t in range(10)]
    video, flow = scene.on_disk(tmp_path, (1, 2, 4, 8))
    found = segment_with_sam(video, flow, {0: {1: click(10.5, 12.5)}}, ByColour())
    assert sum(hidden) == 1
    assert all(agreement == 1.0 for agreement in scene.agreement(found.maps, 1))
    assert found.hidden[1].tolist() == hidden


def test_identity_survives_a_long_occlusion_by_looking_where_the_object_would_be(tmp_path):
    """Adjacent flow only, so nothing connects the frames before and after the bar."""
    scene = Scene({1: [4 + 6 * t for t in range(12)]}, bar=(30, 52))
    video, flow = scene.on_disk(tmp_path, (1,))
    found = segment_with_sam(video, flow, {0: {1: click(10.5, 12.5)}}, ByColour())
    agreement = scene.agreement(found.maps, 1)
    assert agreement[:3] == [1.0] * 3 and agreement[-3:] == [1.0] * 3
    assert found.hidden[1].any()


def test_another_object_is_not_taken_for_a_hidden_one(tmp_path):
    """Red goes behind the bar and stays there; green comes out where red would have been."""
    scene = Scene({1: [4, 12, 20, 34, 34, 34, 34, 34]}, bar=(32, 50))
    video, flow = scene.on_disk(tmp_path, (1,))
    for t in (6, 7):
        image = scene.image(t)
        image[6:20, 50:64] = GREEN
        cv2.imwrite(str(video.path(t)), image[..., ::-1])
    found = segment_with_sam(video, flow, {0: {1: click(10.5, 12.5)}}, ByColour())
    assert found.hidden[1][6:].all()


def test_drifting_flow_is_corrected_by_the_model_in_every_frame(tmp_path):
    scene = Scene({1: [10 + 2 * t for t in range(12)]}, drift_px=2.0)
    video, flow = scene.on_disk(tmp_path, (1,))
    found = segment_with_sam(video, flow, {0: {1: click(15.5, 12.5)}}, ByColour())
    assert min(scene.agreement(found.maps, 1)) == 1.0


def test_drifting_flow_alone_is_corrected_by_wide_strides(tmp_path):
    """With a model that is of no use, sound wide strides bound the drift of the adjacent flow."""
    scene = Scene({1: [10 + 2 * t for t in range(12)]}, drift_px=1.0)
    video, flow = scene.on_disk(tmp_path, (1, 2, 4))
    found = segment_with_sam(video, flow, {0: {1: scene.labels(0) == 1}}, Everything())
    assert min(scene.agreement(found.maps, 1)) > 0.6
    assert found.corrected[1].all()
    (tmp_path / "adjacent").mkdir()
    video, flow = scene.on_disk(tmp_path / "adjacent", (1,))
    alone = segment_with_sam(video, flow, {0: {1: scene.labels(0) == 1}}, Everything())
    assert scene.agreement(alone.maps, 1)[-1] < 0.2


def test_a_later_prompt_overrules_what_was_carried(tmp_path):
    scene = Scene({1: [10] * 4, 2: [10] * 4})
    video, flow = scene.on_disk(tmp_path, (1,))
    found = segment_with_sam(video, flow, {0: {1: click(12.5, 12.5)}, 2: {1: click(12.5, 32.5)}}, ByColour())
    assert [bool((found.maps[t][scene.labels(t) == 1] == 1).all()) for t in range(4)] == [True, True, False, False]
    assert [bool((found.maps[t][scene.labels(t) == 2] == 1).all()) for t in range(4)] == [False, False, True, True]


def test_prompts_beyond_the_video_or_none_are_refused(tmp_path):
    with pytest.raises(UsageError, match="a prompt is for frame 9, but the video has frames 0 to 6"):
        first_prompts({9: {1: click(1, 1)}}, 7)
    with pytest.raises(UsageError, match="there are no prompts"):
        first_prompts({}, 7)
    assert first_prompts({4: {1: click(1, 1), 2: click(1, 1)}, 2: {2: click(1, 1)}}, 7) == {1: 4, 2: 2}


def test_video_memory_gives_every_pixel_to_the_surest_object(tmp_path):
    class Memory:
        def track(self, read, size, n_frames, prompts):
            assert size == (WIDTH, HEIGHT) and read(0).shape == (HEIGHT, WIDTH, 3)
            for t in (1, 0):
                first, second = np.full((HEIGHT, WIDTH), -1.0, np.float32), np.full((HEIGHT, WIDTH), -1.0, np.float32)
                first[:, :10], second[:, 5:20] = 2.0, 3.0 if t else -2.0
                yield t, {4: first, 7: second}

    video, _ = Scene({1: [10, 12]}).on_disk(tmp_path, (1,))
    found = segment_with_sam2(video, {1: {4: click(1, 1), 7: click(9, 9)}}, Memory())
    assert np.unique(found.maps[1, :, :5]).tolist() == [4] and np.unique(found.maps[1, :, 5:20]).tolist() == [7]
    assert np.unique(found.maps[0]).tolist() == [0, 4]
    assert found.hidden[7].tolist() == [True, False] and not found.hidden[4].any()


def test_surest_needs_a_positive_logit():
    labels = surest({1: np.array([[-1.0, 1.0, 1.0]]), 3: np.array([[-2.0, 2.0, 0.5]])})
    assert labels.tolist() == [[0, 3, 1]]


def test_interior_points_of_a_square_worked_by_hand():
    mask = np.zeros((9, 12), bool)
    mask[2:7, 3:8] = True
    assert interior_points(mask, 1).tolist() == [[5.5, 4.5]]
    assert len(interior_points(mask, 3)) == 3
    assert interior_points(np.zeros((4, 4), bool), 3).shape == (0, 2)


def test_boxes_grow_by_their_sides_and_stop_at_the_frame():
    assert grown(np.array([10.0, 10, 30, 20]), 0.1, (100, 31)).tolist() == [8, 9, 31, 21]


def test_colours_are_compared_by_their_histograms():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = 255
    everything, top = np.ones((2, 2), bool), np.array([[True, True], [False, False]])
    assert similarity(colours_of(image, everything), colours_of(image, everything)) == pytest.approx(1.0)
    assert similarity(colours_of(image, everything), colours_of(image, top)) == pytest.approx(np.sqrt(0.5))
    assert similarity(colours_of(image, top), colours_of(image, ~top)) == 0.0
