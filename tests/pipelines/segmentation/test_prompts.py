import json

import numpy as np
import pytest

from pipelines.artifacts import Labels
from pipelines.errors import InputError
from pipelines.segmentation.prompted import edited
from pipelines.segmentation.prompts import Base, NamedObject, ObjectPrompt, Point, PromptFile, Stroke


def test_a_file_comes_back_as_it_was_saved(tmp_path):
    stroke = Stroke(path=((1.0, 2.0), (3.0, 4.0)), radius_px=2.0, positive=False)
    prompt = ObjectPrompt(object=4, frame=1, points=(Point(x=5.5, y=6.5),), box=(1, 2, 30, 40), strokes=(stroke,))
    named = (NamedObject(id=4, name="ring"),)
    saved = PromptFile(
        width=64, height=48, base=Base.NOTHING, objects=named, merge=((1, 2),), background=(3,), prompts=(prompt,)
    )
    saved.save(tmp_path / "prompts.json")
    assert PromptFile.load(tmp_path / "prompts.json") == saved


def test_prompts_are_scaled_with_the_frames():
    prompt = ObjectPrompt(object=1, frame=0, points=(Point(x=10, y=20),), box=(0, 0, 32, 24))
    fitted = PromptFile(width=64, height=48, prompts=(prompt,)).fitted(128, 96, 1)
    np.testing.assert_allclose(fitted.prompts[0].xy_px(positive=True), [[20, 40]])
    assert fitted.prompts[0].box == (0, 0, 64, 48)


def test_prompts_for_another_shape_or_beyond_the_end_are_refused():
    prompts = PromptFile(width=64, height=48, prompts=(ObjectPrompt(object=1, frame=7),))
    with pytest.raises(InputError, match="for frames of 64x48 px, the video has 64x64 px"):
        prompts.fitted(64, 64, 9)
    with pytest.raises(InputError, match="for frame 7, but the video has frames 0 to 6"):
        prompts.fitted(64, 48, 7)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not JSON"),
        (json.dumps({"width": 1}), "height: field required"),
        (json.dumps({"width": 9, "height": 9, "prompts": [{"object": 0, "frame": 0}]}), "prompts.0.object: input should be"),
        (json.dumps({"width": 9, "height": 9, "click": 1}), "click: extra inputs are not permitted"),
    ],
)
def test_a_damaged_file_is_named_with_the_place(tmp_path, content, complaint):
    path = tmp_path / "prompts.json"
    path.write_text(content)
    with pytest.raises(InputError, match=complaint):
        PromptFile.load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match="make it with osn annotate"):
        PromptFile.load(tmp_path / "none.json")


def test_a_stroke_covers_the_pixels_within_its_radius():
    stroke = Stroke(path=((10.5, 10.5), (20.5, 10.5)), radius_px=3.0)
    painted = ObjectPrompt(object=1, frame=0, strokes=(stroke,)).painted(20, 40, positive=True)
    row, column = np.indices(painted.shape) + 0.5
    distance = np.hypot(np.maximum(np.maximum(10.5 - column, column - 20.5), 0), row - 10.5)
    assert painted[distance < 2.4].all()
    assert not painted[distance > 4.1].any()


def test_the_later_of_two_prompts_for_a_frame_counts():
    first, second = (ObjectPrompt(object=1, frame=3, points=(Point(x=x, y=1),)) for x in (1, 2))
    prompts = PromptFile(width=9, height=9, prompts=(first, second, ObjectPrompt(object=2, frame=0)))
    assert prompts.of_object(1) == [second]
    assert prompts.prompted == [1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"merge": [[1, 2], [2, 3], [3, 1]]}, "go in a circle"),
        ({"merge": [[1, 2], [2, 1]]}, "go in a circle"),
        ({"merge": [[1, 300]]}, "less than"),
        ({"background": [-1]}, "greater than"),
    ],
)
def test_objects_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        PromptFile.parse({"width": 8, "height": 8} | changes, "here")


def test_merges_may_follow_each_other():
    chain = PromptFile.parse({"width": 8, "height": 8, "merge": [[2, 1], [3, 2], [5, 5], []]}, "here")
    maps = np.arange(4, dtype=np.uint8)[None, None]
    automatic = Labels(maps, ("background", "a", "b", "c"))
    assert edited(chain, automatic, maps.shape).ravel().tolist() == [0, 3, 3, 3]
