from itertools import pairwise

import numpy as np
import pytest

from pipelines.artifacts import Labels
from pipelines.errors import MissingDependencyError, UsageError
from pipelines.segmentation.hierarchy import HierarchyOptions, build_hierarchy, merged, touching
from pipelines.segmentation.prompted import Prompter, apply_prompts, edited, overlap, predictor_of
from pipelines.segmentation.prompts import Base, NamedObject, ObjectPrompt, Point, PromptFile, Stroke
from third_party.prompt import Prediction, Prompt


def click(slide, t: int, object_id: int = 1) -> ObjectPrompt:
    x, y = slide.middle(t)
    return ObjectPrompt(object=object_id, frame=t, points=(Point(x=x, y=y),))


def prompt_file(*prompts: ObjectPrompt, **more) -> PromptFile:
    return PromptFile(width=160, height=120, prompts=prompts, **more)


def test_regions_merge_the_most_alike_first():
    superpixel = np.array([[0, 1, 2, 3]])
    neighbours, border_px = touching(superpixel)
    assert neighbours.tolist() == [[0, 1], [1, 2], [2, 3]]
    mean = np.array([[0.0], [0.1], [5.0], [5.5]])
    assert merged(mean, np.ones(4), neighbours, border_px).tolist() == [4, 4, 5, 5, 6, 6, -1]


def test_ancestors_of_a_pixel_are_nested(slide):
    tree = build_hierarchy(slide.video, slide.flow, 2, HierarchyOptions(superpixels=200))
    regions = [tree.members(node) for node in tree.ancestors(int(tree.superpixel[60, 60]))]
    assert regions[0].sum() == 1
    assert regions[-1].all()
    assert all((small <= large).all() for small, large in pairwise(regions))


def test_one_click_finds_what_moves_with_it(slide):
    found = Prompter(slide.video, slide.flow).mask(click(slide, 2), None, Base.NOTHING)
    assert overlap(found, slide.labels.maps[2] == 1) > 0.85


def test_a_click_means_the_automatic_object_that_is_there(slide):
    found = Prompter(slide.video, slide.flow, slide.labels).mask(click(slide, 3, 7), slide.labels.maps[3], Base.NOTHING)
    assert np.array_equal(found, slide.labels.maps[3] == 1)


def test_a_click_on_an_automatic_object_means_it_in_every_frame(slide):
    prompts = prompt_file(click(slide, 3, 7), base=Base.NOTHING)
    gone = slide.labels.maps.copy()
    gone[5] = 0
    labels = apply_prompts(prompts, Prompter(slide.video, slide.flow, Labels(gone, ("background", "square"))))
    assert np.array_equal(labels.maps, gone)
    assert labels.names == ("background", "object 7")


def test_strokes_paint_and_erase_exactly(slide):
    erased = Stroke(path=((60.0, 60.0),), radius_px=4.0, positive=False)
    prompt = ObjectPrompt(object=1, frame=3, strokes=(erased,))
    found = Prompter(slide.video, slide.flow, slide.labels).mask(prompt, slide.labels.maps[3], Base.AUTOMATIC)
    covered = prompt.painted(120, 160, positive=False)
    assert np.array_equal(found, (slide.labels.maps[3] == 1) & ~covered)


def test_a_box_alone_means_what_fills_it(slide):
    box = (36.0, 38.0, 80.0, 82.0)
    found = Prompter(slide.video, slide.flow).mask(ObjectPrompt(object=1, frame=2, box=box), None, Base.NOTHING)
    assert overlap(found, slide.labels.maps[2] == 1) > 0.85


def test_a_box_limits_what_a_click_finds(slide):
    prompt = click(slide, 2).model_copy(update={"box": (36.0, 38.0, 84.0, 62.0)})
    found = Prompter(slide.video, slide.flow).mask(prompt, None, Base.NOTHING)
    assert found.any()
    assert np.nonzero(found)[0].max() < 62


def test_a_click_in_one_frame_finds_the_object_in_all(slide):
    prompts = prompt_file(click(slide, 1, 5), base=Base.NOTHING, objects=(NamedObject(id=5, name="tile"),))
    labels = apply_prompts(prompts, Prompter(slide.video, slide.flow))
    assert labels.names == ("background", "tile")
    assert min(overlap(labels.maps[t] == 1, slide.labels.maps[t] == 1) for t in range(6)) > 0.8


def test_a_correction_is_carried_to_the_other_frames(slide):
    """The automatic result lacks the lower half of the square; painting it back in one frame restores it in all."""
    half = slide.labels.maps.copy()
    half[:, 60:] = 0
    x, _ = slide.middle(2)
    stroke = Stroke(path=((x - 10, 70.0), (x + 10, 70.0)), radius_px=10.0)
    prompts = prompt_file(ObjectPrompt(object=1, frame=2, strokes=(stroke,)))
    automatic = Labels(half, ("background", "square"))
    labels = apply_prompts(prompts, Prompter(slide.video, slide.flow, automatic))
    before = overlap(half[5] == 1, slide.labels.maps[5] == 1)
    assert before == pytest.approx(0.5)
    there, here = (overlap(labels.maps[t] == 1, slide.labels.maps[t] == 1) for t in (5, 2))
    assert here > 0.8
    assert there == pytest.approx(here, abs=0.05)


def test_objects_are_merged_split_and_given_to_the_background(slide):
    maps = slide.labels.maps.copy()
    maps[:, :20], maps[:, 100:] = 2, 3
    automatic = Labels(maps, ("background", "square", "top", "bottom"))
    prompts = prompt_file(merge=((1, 2),), background=(3,))
    labels = apply_prompts(prompts, Prompter(slide.video, slide.flow, automatic))
    assert labels.names == ("background", "square")
    assert np.array_equal(labels.maps == 1, (maps == 1) | (maps == 2))


def test_chains_of_merges_end_in_one_object_whatever_their_order():
    automatic = Labels(np.arange(5, dtype=np.uint8).reshape(1, 1, 5), tuple("abcde"))
    for merge in (((4, 3), (3, 2), (2, 1)), ((2, 1), (3, 2), (4, 3))):
        assert edited(prompt_file(merge=merge), automatic, (1, 1, 5)).ravel().tolist() == [0, 4, 4, 4, 4]


def test_ids_without_pixels_leave_no_gap(slide):
    maps = np.where(slide.labels.maps == 1, 3, 0).astype(np.uint8)
    automatic = Labels(maps, ("background", "a", "b", "square"))
    labels = apply_prompts(prompt_file(), Prompter(slide.video, slide.flow, automatic))
    assert labels.names == ("background", "square")
    assert np.array_equal(labels.maps, slide.labels.maps)


def test_prompts_need_flow_and_must_leave_a_background(slide):
    with pytest.raises(UsageError, match="run the stage flow first"):
        apply_prompts(prompt_file(click(slide, 0)), Prompter(slide.video, None))
    everything = Labels(np.ones((6, 120, 160), np.uint8), ("background", "all"))
    with pytest.raises(UsageError, match="leave no background"):
        apply_prompts(prompt_file(), Prompter(slide.video, slide.flow, everything))


class Painter:
    """A model that answers with a disc of 10 px about the first point, and counts how often it looked at an image."""

    def __init__(self) -> None:
        self.looks = 0
        self.asked: list[Prompt] = []

    def set_image(self, image: np.ndarray) -> None:
        self.looks += 1
        self.shape = image.shape[:2]

    def prior(self, mask: np.ndarray) -> np.ndarray:
        return np.full((4, 4), mask.sum(), np.float32)

    def predict(self, prompt: Prompt) -> Prediction:
        self.asked.append(prompt)
        row, column = np.indices(self.shape) + 0.5
        distance = np.hypot(column - prompt.points_px[0, 0], row - prompt.points_px[0, 1])
        return Prediction((10 - distance).astype(np.float32), 1.0, np.zeros((4, 4), np.float32))


def test_a_learned_model_answers_where_there_is_one(slide):
    model = Painter()
    prompter = Prompter(slide.video, slide.flow, slide.labels, predictor=model)
    prompt = ObjectPrompt(object=1, frame=2, points=(Point(x=9, y=9, positive=False), Point(x=60, y=60)), box=(1, 2, 90, 80))
    found = prompter.mask(prompt, slide.labels.maps[2], Base.AUTOMATIC)
    assert found.sum() == pytest.approx(np.pi * 100, rel=0.02)
    prompter.mask(prompt, None, Base.NOTHING)
    assert model.looks == 1
    first, second = model.asked
    assert first.points_px.tolist() == [[60, 60], [9, 9]]
    assert first.positive.tolist() == [True, False]
    assert first.box_px.tolist() == [1, 2, 90, 80]
    assert first.logits[0, 0] == (slide.labels.maps[2] == 1).sum()
    assert second.logits is None


def test_weights_that_are_not_here_are_said_to_be_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("OSN_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="osn weights pull sam-vit-b"):
        predictor_of("sam-vit-b", "cpu")
