"""Prompts of people and of the motion segmentation, as promptable models take them; the models themselves are stand-ins."""

import numpy as np
import pytest

import third_party.sam
import third_party.sam2
from pipelines.artifacts import Flow, Labels, Video
from pipelines.errors import MissingDependencyError, UsageError
from pipelines.progress import Silent
from pipelines.segmentation.learned import (
    SamModel,
    VideoModel,
    as_prompt,
    by_motion,
    combined,
    names_of,
    notes,
    renumbered,
    segment_by_model,
)
from pipelines.segmentation.prompts import ObjectPrompt, Point, PromptFile, Stroke
from pipelines.segmentation.sam_propagation import Propagated
from third_party.prompt import Prediction, Prompt

HEIGHT, WIDTH, N_FRAMES = 12, 16, 3


def labels_of(*areas: tuple[int, int]) -> Labels:
    """Frames in which object 1 and 2 show so many columns of their rows."""
    maps = np.zeros((len(areas), HEIGHT, WIDTH), np.uint8)
    for t, (first, second) in enumerate(areas):
        maps[t, 0:5, :first], maps[t, 6:11, :second] = 1, 2
    return Labels(maps, ("background", "crate", "ring"))


def prompt_file(**fields) -> PromptFile:
    return PromptFile.parse({"width": WIDTH, "height": HEIGHT} | fields, "made.json")


def test_clicks_and_boxes_keep_their_coordinates_and_strokes_become_points():
    stroke = Stroke(path=((3.5, 6.5), (9.5, 6.5)), radius_px=2.0, positive=False)
    said = ObjectPrompt(object=1, frame=0, points=(Point(x=2.5, y=3.5),), box=(1, 2, 5, 6), strokes=(stroke,))
    prompt = as_prompt(said, HEIGHT, WIDTH)
    assert prompt.points_px[0].tolist() == [2.5, 3.5] and prompt.box_px.tolist() == [1, 2, 5, 6]
    assert prompt.positive[0] and not prompt.positive[1:].any() and 2 <= len(prompt.positive) <= 4
    covered = said.painted(HEIGHT, WIDTH, positive=False)
    assert all(covered[int(y), int(x)] for x, y in prompt.points_px[1:])


def test_motion_prompts_every_frame_or_the_best_one():
    labels = labels_of((6, 0), (8, 5), (2, 7))
    every = by_motion(labels, every_frame=True)
    assert {t: sorted(masks) for t, masks in every.items()} == {0: [1], 1: [1, 2], 2: [2]}
    best = by_motion(labels, every_frame=False)
    assert {t: sorted(masks) for t, masks in best.items()} == {1: [1], 2: [2]}
    np.testing.assert_array_equal(best[2][2], labels.maps[2] == 2)
    assert by_motion(None, every_frame=True) == {}


def test_a_persons_word_overrules_the_motions_mask():
    click = Prompt(np.array([[1.5, 1.5]]), np.array([True]))
    both = combined(by_motion(labels_of((6, 6)), every_frame=True), {0: {2: click}, 1: {5: click}})
    assert isinstance(both[0][1], np.ndarray) and both[0][2] is click and list(both[1]) == [5]


def test_names_come_from_the_person_then_from_the_motion():
    said = prompt_file(objects=[{"id": 2, "name": "torus"}], prompts=[{"object": 2, "frame": 0}, {"object": 7, "frame": 0}])
    assert names_of(said, labels_of((1, 1))) == {0: "background", 1: "crate", 2: "torus", 7: "object 7"}
    assert names_of(said, None) == {2: "torus", 7: "object 7"}


def test_objects_are_renumbered_in_the_order_of_their_ids():
    maps = np.array([[[0, 3, 7]]], np.uint8)
    quiet = {3: np.zeros(1, bool), 7: np.zeros(1, bool)}
    labels = renumbered(Propagated(maps, quiet, quiet), {3: "crate", 7: "ring"})
    assert labels.maps.tolist() == [[[0, 1, 2]]] and labels.names == ("background", "crate", "ring")


def test_notes_tell_of_doubts_only():
    hidden = {1: np.array([False, True, True]), 2: np.zeros(3, bool)}
    corrected = {1: np.array([True, False, False]), 2: np.zeros(3, bool)}
    found = Propagated(np.zeros((3, 1, 1), np.uint8), hidden, corrected)
    assert notes(found, {1: "crate", 2: "ring"}) == ["crate: hidden in 2 of 3 frames, the model's mask refused in 1"]


@pytest.fixture
def still(tmp_path) -> tuple[Video, Flow]:
    """A video of three equal frames, with its flow."""
    import cv2

    pairs = tuple((t, u) for t in range(N_FRAMES) for u in range(N_FRAMES) if abs(t - u) == 1)
    flow = Flow(tmp_path, pairs)
    for t in range(N_FRAMES):
        cv2.imwrite(str(tmp_path / f"{t:06d}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    for pair in pairs:
        flow.write(*pair, np.zeros((HEIGHT, WIDTH, 2)), np.ones((HEIGHT, WIDTH), bool))
    return Video(tmp_path, WIDTH, HEIGHT, N_FRAMES, 10.0, "made.mp4"), flow


OPTIONS = {"device": "cpu", "progress": Silent()}


def test_sam_answers_are_followed_through_the_clip(still, tmp_path, monkeypatch):
    class Box:
        """Answers with the prompted box."""

        def set_image(self, image):
            pass

        def prior(self, mask):
            return np.zeros((4, 4), np.float32)

        def predict(self, prompt):
            logit = np.full((HEIGHT, WIDTH), -1.0, np.float32)
            x0, y0, x1, y1 = prompt.box_px.round().astype(int)
            logit[y0:y1, x0:x1] = 1.0
            return Prediction(logit, 0.9, np.zeros((4, 4), np.float32))

    monkeypatch.setattr(third_party.sam, "load_sam", lambda path, device: Box())
    video, flow = still
    said = prompt_file(prompts=[{"object": 4, "frame": 1, "box": [2, 3, 9, 9]}])
    weights = video.path(0)
    labels = segment_by_model(SamModel.VIT_B, video=video, flow=flow, prompts=said, motion=None, weights=weights, **OPTIONS)
    assert labels.names == ("background", "object 4")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[3:9, 2:9] = 1
    np.testing.assert_array_equal(labels.maps, np.stack([expected] * N_FRAMES))


def test_video_memory_starts_from_the_motions_best_masks(still, monkeypatch):
    class Memory:
        def track(self, read, size, n_frames, prompts):
            assert {t: sorted(masks) for t, masks in prompts.items()} == {1: [1], 2: [2]}
            for t in range(n_frames):
                yield t, {k: np.where(prompts[k][k], 1.0, -1.0).astype(np.float32) for k in (1, 2)}

    monkeypatch.setattr(third_party.sam2, "load_video_segmenter", lambda path, device: Memory())
    video, _ = still
    motion = labels_of((6, 0), (8, 5), (2, 7))
    labels = segment_by_model(
        VideoModel.EDGETAM, video=video, flow=None, prompts=None, motion=motion, weights=video.folder, **OPTIONS
    )
    assert labels.names == motion.names
    assert (labels.maps == 1).sum((1, 2)).tolist() == [40] * 3 and (labels.maps == 2).sum((1, 2)).tolist() == [35] * 3


def test_missing_weights_and_missing_flow_are_said(still, tmp_path, monkeypatch):
    monkeypatch.delenv("OSN_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    video, flow = still
    options = OPTIONS | {"video": video, "prompts": None, "motion": labels_of((6, 6))}
    with pytest.raises(MissingDependencyError, match="osn weights pull sam-vit-h"):
        segment_by_model(SamModel.VIT_H, flow=flow, weights=None, **options)
    with pytest.raises(UsageError, match="sam-vit-b follows objects by optical flow"):
        segment_by_model(SamModel.VIT_B, flow=None, weights=video.path(0), **options)
