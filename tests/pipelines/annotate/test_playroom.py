"""The page's promise on a rendered scene with known masks: one click, no weights, no automatic result."""

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.annotate.desk import Desk
from pipelines.artifacts import Labels, Video
from pipelines.flow import FlowConfig, compute_flow
from pipelines.segment import SegmentConfig, segment
from pipelines.segmentation.prompted import overlap
from pipelines.segmentation.prompts import Base, ObjectPrompt, Point, PromptFile
from pipelines.stage import ItemCache, StageContext

FIRST, N_FRAMES, CRATE = 10, 7, 2


@pytest.mark.slow
def test_one_click_gives_the_mask_and_segment_reproduces_it(playroom, tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "flow").mkdir()
    video = Video(tmp_path / "frames", 384, 288, N_FRAMES, 12.0, "playroom")
    for t in range(N_FRAMES):
        Image.open(playroom / "images_train" / f"{FIRST + t:04d}.png").convert("RGB").save(video.path(t))
    video.save()
    with np.load(playroom / "gt.npz") as truth:
        true = truth["segm_train"][FIRST : FIRST + N_FRAMES] == CRATE
    items = ItemCache(tmp_path / "items")
    flow = compute_flow(FlowConfig(), video=video, context=StageContext(tmp_path / "flow", items))
    nothing = np.zeros(true.shape, np.uint8)
    desk = Desk(video, flow, Labels(nothing, ("background",)), tmp_path / "prompts.json")

    distance = cv2.distanceTransform(true[3].astype(np.uint8), cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    prompt = ObjectPrompt(object=1, frame=3, points=(Point(x=column + 0.5, y=row + 0.5),))
    prompts = PromptFile(width=384, height=288, base=Base.NOTHING, prompts=(prompt,))
    shown = desk.frame_labels(prompts, 3) == 1
    assert overlap(shown, true[3]) >= 0.85

    masks = tmp_path / "masks"
    masks.mkdir()
    for t in range(N_FRAMES):
        Image.fromarray(nothing[t]).save(masks / f"{t:04d}.png")
    config = SegmentConfig(method="masks", masks=masks, prompts=desk.save(prompts))
    labels = segment(config, video=video, flow=flow, context=StageContext(tmp_path / "out", items))
    assert np.array_equal(labels.maps[3] == 1, shown)
    assert min(overlap(labels.maps[t] == 1, true[t]) for t in range(N_FRAMES)) >= 0.85
