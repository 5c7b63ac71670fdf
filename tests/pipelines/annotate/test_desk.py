import io
import time

import numpy as np
import pytest
from PIL import Image

from pipelines.annotate.desk import overlay_png
from pipelines.errors import InputError
from pipelines.segmentation.prompts import Base, NamedObject, ObjectPrompt, Point, PromptFile


def clicked(desk, **more):
    prompt = ObjectPrompt(object=3, frame=1, points=(Point(x=40.5, y=32.5),))
    return desk.start().model_copy(update={"prompts": (prompt,), **more})


def test_it_starts_from_the_automatic_objects_or_from_what_was_saved(desk):
    start = desk.start()
    assert [(one.id, one.name) for one in start.objects] == [(1, "upper"), (2, "lower")]
    merged = start.model_copy(update={"merge": ((1, 2),)})
    assert desk.save(merged) == desk.path
    assert desk.start() == merged


def test_objects_that_the_saved_file_does_not_name_have_names_all_the_same(desk):
    """A file written by hand may name nothing: without a row an object could not be merged, renamed or marked."""
    unnamed = PromptFile(width=96, height=64, objects=(NamedObject(id=2, name="mine"),), prompts=clicked(desk).prompts)
    unnamed.save(desk.path)
    assert [(one.id, one.name) for one in desk.start().objects] == [(1, "upper"), (2, "mine"), (3, "object 3")]
    clicked(desk, base=Base.NOTHING, objects=()).save(desk.path)
    assert [(one.id, one.name) for one in desk.start().objects] == [(1, "upper"), (2, "lower"), (3, "object 3")]


def test_merging_shows_in_every_frame_at_once(desk):
    merged = desk.start().model_copy(update={"merge": ((1, 2),)})
    labels = desk.frame_labels(merged, 2)
    assert np.array_equal(labels == 1, desk.automatic.maps[2] > 0)


def test_a_click_is_answered_in_its_frame_and_followed_through_the_clip(desk):
    prompts = clicked(desk, base=Base.NOTHING)
    assert (desk.frame_labels(prompts, 1) == 3).sum() > 300
    assert not desk.frame_labels(prompts, 2).any()
    run = desk.follow(prompts)
    while not run.described()["ready"]:
        assert run.error is None
        time.sleep(0.05)
    assert run.done == run.total
    assert (desk.frame_labels(prompts, 2) == 3).sum() > 300
    assert not desk.frame_labels(prompts.model_copy(update={"prompts": ()}), 2).any()


def test_an_answer_is_remembered(desk, monkeypatch):
    prompts = clicked(desk, base=Base.NOTHING)
    first = desk.frame_labels(prompts, 1)
    monkeypatch.setattr(desk.prompter, "mask", None)
    assert np.array_equal(desk.frame_labels(prompts, 1), first)


def test_a_run_that_fails_says_why(desk):
    everything = ObjectPrompt(object=1, frame=9)
    run = desk.follow(desk.start().model_copy(update={"prompts": (everything,)}))
    while run.error is None:
        time.sleep(0.02)
    assert run.described()["error"] == "a prompt is for frame 9, but the video has frames 0 to 3"


def test_frames_that_do_not_exist_are_refused(desk):
    with pytest.raises(InputError, match="there is no frame 4, only 0 to 3"):
        desk.frame_labels(desk.start(), 4)


def test_an_overlay_is_clear_where_the_background_is():
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    rgba = np.array(Image.open(io.BytesIO(overlay_png(labels))).convert("RGBA"))
    assert rgba[..., 3].tolist() == [[0, 255], [255, 255]]
    assert rgba[0, 1, :3].tolist() == [128, 0, 0]
