"""The render stage: videos and images for samples, paths and outputs; the grid that shows same video, different scenes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts import Samples
from pipelines.errors import InputError, UsageError, WorkspaceError
from pipelines.formats.depth import colourised
from pipelines.formats.mp4 import mp4_writer
from pipelines.palette_png import palette
from pipelines.render import Output, RenderConfig, camera_path, render, side_by_side_picture
from pipelines.stage import ItemCache, StageContext


def decoded(path) -> np.ndarray:
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


@pytest.fixture
def rendered(toy_scene, toy_samples, tmp_path):
    def run(**options):
        context = StageContext(tmp_path, ItemCache(tmp_path / "items"))
        return render(RenderConfig(**options), scene=toy_scene, samples=toy_samples, context=context)

    return run


def test_the_filmed_path_shows_the_video(rendered, toy_scene, tmp_path):
    (path,) = rendered(path="filmed", samples="scales:1,1")
    expected = np.stack([toy_scene.render(t=t, scale=np.ones(3)).rgb for t in range(8)]) * 255
    assert np.abs(decoded(path).astype(float) - expected).mean() < 8  # the codec halves the resolution of colour
    image = np.asarray(Image.open(tmp_path / "own_scales_colour" / "000003.png"))
    assert np.array_equal(image, np.round(expected[3]).astype(np.uint8))


def test_every_output_of_a_few_small_frames(rendered, tmp_path, toy_scene, toy_samples):
    paths = rendered(path="filmed", samples="1", outputs=tuple(Output), width_px=64, first_frame=2, last_frame=6, frame_step=2)
    assert [path.name for path in paths] == [f"sample_0001_{output}.mp4" for output in Output]
    assert [len(decoded(path)) for path in paths] == [3, 3, 3]
    labels = np.asarray(Image.open(tmp_path / "sample_0001_labels" / "000001.png"))
    expected = toy_scene.render(t=4, scale=toy_samples.scale[1], width=64, height=48).label
    assert np.array_equal(labels, palette()[expected])


def test_the_grid_has_the_filmed_view_above_and_the_novel_view_below(rendered, tmp_path):
    paths = rendered(path="freeze", samples="diverse:3", freeze_steps=3, width_px=64)
    assert paths[-1].name == "grid.mp4" and len(paths) == 4
    grid = np.asarray(Image.open(tmp_path / "grid" / "000001.png"))
    assert grid.shape == (2 * 48, 3 * 64, 3)
    novel = np.asarray(Image.open(tmp_path / "sample_0001_colour" / "000001.png"))
    assert np.array_equal(grid[48 + 24 :, 64:128], novel[24:])
    # Every sample explains the video: the filmed views agree except at the objects' borders, the novel ones do not.
    above, below = grid[:48].reshape(48, 3, 64, 3), grid[48:].reshape(48, 3, 64, 3)
    assert np.mean(np.abs(above[:, 0].astype(int) - above[:, 1]).max(-1) > 8) < 0.02
    assert np.mean(np.abs(below[20:, 0].astype(int) - below[20:, 1]).max(-1) > 8) > 0.02


def test_what_was_never_seen_is_hatched(rendered, tmp_path):
    rendered(path="freeze", samples="0", freeze_steps=4, orbit_deg=40, width_px=64)
    rendered_image = np.asarray(Image.open(tmp_path / "sample_0000_colour" / "000001.png")).astype(int)
    grey = (np.ptp(rendered_image, axis=-1) == 0) & np.isin(rendered_image[..., 0], (189, 219))
    assert 0.1 < grey.mean() < 0.9


def test_pivot_paths_look_at_the_movers(toy_scene):
    shots = camera_path(RenderConfig(path="sway", sway_period_frames=8), toy_scene, np.ones(3))
    pivot = [np.linalg.norm((toy_scene.cam_from_obj[1, t] + toy_scene.cam_from_obj[2, t])[:3, 3] / 2) for t in range(8)]
    centres = [
        np.linalg.norm((shot.view_from_world @ np.linalg.inv(toy_scene.cam_from_obj[0, shot.t]))[:3, 3]) for shot in shots
    ]
    expected = 2 * np.array(pivot) * np.sin(np.radians(6.0) / 2)
    assert max(centres) < 1.2 * expected.max() and max(centres) > 0.5 * expected.min()


def test_frames_without_a_camera_are_left_out_and_a_scene_without_movers_still_sways(toy_scene):
    import dataclasses

    registered = toy_scene.registered[:1].copy()
    registered[0, 2] = False
    still = dataclasses.replace(
        toy_scene,
        cam_from_obj=toy_scene.cam_from_obj[:1],
        registered=registered,
        object_ids=(0,),
        names=("background",),
        shapes=toy_scene.shapes[:1],
        boxes=toy_scene.boxes[:1],
    )
    shots = camera_path(RenderConfig(path="sway"), still, np.ones(1))
    assert [shot.t for shot in shots] == [0, 1, 3, 4, 5, 6, 7]


def test_a_path_from_a_file(rendered, toy_scene, tmp_path):
    file = tmp_path / "path.json"
    file.write_text(json.dumps({"frames": [{"t": 3, "view_from_world": toy_scene.cam_from_obj[0, 3].tolist()}]}))
    (path,) = rendered(path=str(file), samples="scales:1,1", mark_unseen=False)
    expected = toy_scene.render(t=3, scale=np.ones(3)).rgb * 255
    assert np.abs(np.asarray(Image.open(tmp_path / "own_scales_colour" / "000000.png")) - expected).max() <= 1
    assert len(decoded(path)) == 1


@pytest.mark.parametrize("path", ["filmed", "sway"])
def test_the_cameras_that_were_rendered_are_a_path_that_renders_the_same(toy_scene, toy_samples, tmp_path, path):
    def run(folder: str, **options) -> Path:
        context = StageContext(tmp_path / folder, ItemCache(tmp_path / "items"))
        context.out.mkdir()
        config = RenderConfig(samples="0", mark_unseen=False, width_px=64, outputs=(Output.COLOUR, Output.DEPTH), **options)
        render(config, scene=toy_scene, samples=toy_samples, context=context)
        return context.out

    first = run("first", path=path, first_frame=3, frame_step=2)
    document = json.loads((first / "cameras.json").read_text())
    assert [(one["file"], one["t"]) for one in document["frames"]] == [("000000.png", 3), ("000001.png", 5), ("000002.png", 7)]
    assert (document["frames"][0]["width"], document["frames"][0]["height"]) == (64, 48)
    assert np.allclose(document["frames"][1]["intrinsics"], [[70, 0, 32], [0, 70, 24], [0, 0, 1]])
    again = run("again", path=str(first / "cameras.json"))
    for output in ("colour", "depth"):
        for name in ("000000.png", "000001.png", "000002.png"):
            images = [np.asarray(Image.open(folder / f"sample_0000_{output}" / name)) for folder in (first, again)]
            assert np.abs(images[0].astype(int) - images[1]).max() <= 1
    assert json.loads((again / "cameras.json").read_text()) == document


def test_cameras_tell_the_depths_behind_the_colours(rendered, toy_scene, tmp_path):
    rendered(path="filmed", samples="scales:1,1", outputs=(Output.DEPTH,), last_frame=1)
    near_far = json.loads((tmp_path / "cameras.json").read_text())["depth_colours"]
    depth = toy_scene.render(t=0, scale=np.ones(3)).depth
    assert (near_far["near"], near_far["far"]) == pytest.approx(tuple(np.quantile(depth, [0.01, 0.99])))
    image = np.asarray(Image.open(tmp_path / "own_scales_depth" / "000000.png"))
    assert np.array_equal(image, colourised(depth, near_far["near"], near_far["far"]))
    rendered(path="filmed", samples="scales:1,1", last_frame=0)
    assert "depth_colours" not in json.loads((tmp_path / "cameras.json").read_text())


def test_frames_and_paths_that_do_not_exist(rendered):
    with pytest.raises(UsageError, match="no frame from 9 to 7"):
        rendered(path="filmed", first_frame=9)
    with pytest.raises(UsageError, match="frame 99 has no known camera"):
        rendered(path="freeze", freeze_frame=99)
    with pytest.raises(InputError, match="neither a file nor one of"):
        rendered(path="spiral")


def test_pictures_side_by_side_wrap_after_four():
    pictures = [np.full((2, 3, 3), i, np.uint8) for i in range(5)]
    grid = side_by_side_picture([pictures, [p + 10 for p in pictures]])
    assert grid.shape == (8, 12, 3)
    assert grid[::2, ::3, 0].tolist() == [[0, 1, 2, 3], [10, 11, 12, 13], [4, 0, 0, 0], [14, 0, 0, 0]]


def test_many_pictures_make_about_a_square():
    pictures = [np.zeros((24, 32, 3), np.uint8)] * 64
    height, width, _ = side_by_side_picture([pictures, pictures]).shape
    assert 0.5 < height / width < 2


def test_more_scenes_than_encoders_are_refused(toy_scene, toy_samples, tmp_path):
    many = Samples(np.zeros((65, 3)), np.ones(65), np.array([0, 1, 3]))
    with pytest.raises(UsageError, match="65 scenes are too many"):
        render(
            RenderConfig(samples="diverse:65"),
            scene=toy_scene,
            samples=many,
            context=StageContext(tmp_path, ItemCache(tmp_path)),
        )


def test_fewer_frames_play_as_long(rendered):
    import imageio_ffmpeg

    (path,) = rendered(path="filmed", samples="0", width_px=64, frame_step=2)
    meta = next(imageio_ffmpeg.read_frames(str(path)))
    assert meta["fps"] == pytest.approx(5.0)


def test_a_film_that_the_encoder_did_not_finish_is_said(tmp_path, monkeypatch):
    import imageio_ffmpeg

    def broken(path, *_, **__):
        Path(path).write_bytes(b"")
        while True:
            yield

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", broken)
    with pytest.raises(WorkspaceError, match="could not be finished"), mp4_writer(tmp_path / "a.mp4", 32, 16, 10.0) as add:
        add(np.zeros((16, 32, 3), np.uint8))


def test_odd_sizes_are_encoded(tmp_path):
    with mp4_writer(tmp_path / "odd.mp4", 33, 17, 10.0) as add:
        for level in (0, 128, 255):
            add(np.full((17, 33, 3), level, np.uint8))
    frames = decoded(tmp_path / "odd.mp4")
    assert frames.shape == (3, 18, 34, 3)
    assert abs(int(frames[1].mean()) - 128) < 4


def test_near_depth_is_red_far_is_blue_nothing_is_black():
    near, far, nothing = colourised(np.array([[1.0, 4.0, 0.0]]), 1.0, 4.0)[0].astype(int)
    assert near[0] > near[2] and far[2] > far[0] and nothing.tolist() == [0, 0, 0]
