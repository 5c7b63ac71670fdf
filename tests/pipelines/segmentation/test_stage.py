from pathlib import Path

import numpy as np
import pytest

from pipelines import palette_png
from pipelines.artifacts import Labels
from pipelines.errors import UsageError
from pipelines.segment import SegmentConfig, SegmentMethod, segment
from pipelines.stage import ItemCache, StageContext
from pipelines.synthetic.scene import make_scene
from pipelines.synthetic.spec import SceneSpec


def context_in(folder: Path) -> StageContext:
    (folder / "out").mkdir(parents=True)
    return StageContext(folder / "out", ItemCache(folder / "items"))


def test_masks_are_imported_and_shown(slide, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    for t, labels in enumerate(slide.labels.maps):
        palette_png.write(folder / f"{t:05d}.png", 4 * labels)
    context = context_in(tmp_path)
    config = SegmentConfig(method=SegmentMethod.MASKS, masks=folder)
    labels = segment(config, video=slide.video, flow=None, context=context)
    np.testing.assert_array_equal(labels.maps, slide.labels.maps)
    assert labels.names == ("background", "object 4")
    np.testing.assert_array_equal(Labels.load(context.out).maps, labels.maps)
    assert (context.out / "overlay.mp4").stat().st_size > 1000


def test_methods_say_what_they_lack(slide, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--masks PATH"):
        segment(SegmentConfig(method=SegmentMethod.MASKS), video=slide.video, flow=None, context=context_in(tmp_path / "a"))
    with pytest.raises(UsageError, match="run the stage flow first"):
        segment(SegmentConfig(), video=slide.video, flow=None, context=context_in(tmp_path / "b"))


@pytest.mark.slow
def test_movers_of_a_synthetic_scene_are_found_and_cut_out(tmp_path: Path) -> None:
    from PIL import Image

    from pipelines.artifacts import Video
    from pipelines.flow import FlowConfig, compute_flow

    scene = make_scene(SceneSpec(seed=3, n_movers=2, n_frames=14, width=240, height=180, candidates=2))
    video = Video(tmp_path, width=240, height=180, n_frames=14, fps=12.0, source="synthetic")
    for t, image in enumerate(scene.images_train):
        Image.fromarray(image).save(video.path(t))
    flow = compute_flow(FlowConfig(), video=video, context=context_in(tmp_path / "flow"))
    labels = segment(SegmentConfig(max_tracks=1000), video=video, flow=flow, context=context_in(tmp_path / "segment"))
    truth = scene.segm_train
    assert labels.n_objects == 3
    for k in range(3):
        overlaps = [((labels.maps == j) & (truth == k)).sum() / ((labels.maps == j) | (truth == k)).sum() for j in range(3)]
        assert max(overlaps) > 0.7
        assert int(np.argmax(overlaps)) == 0 or k > 0, "the background is label 0"
