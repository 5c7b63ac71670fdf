"""The SAM 2 adapter, on a small network of random weights in the format of transformers."""

import json

import numpy as np
import pytest
import torch

from third_party.errors import UnavailableError
from third_party.prompt import Prompt
from third_party.sam2 import LazyFrames, VideoSegmenter, _point_inputs, load_video_segmenter

WIDTH, HEIGHT, N_FRAMES, SIDE_PX = 80, 60, 4, 128
FRAMES = np.random.default_rng(0).integers(0, 255, (N_FRAMES, HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def small(torchvision):
    transformers = pytest.importorskip("transformers", reason="transformers (extra sam2) is not installed")
    config = transformers.Sam2VideoConfig().to_dict()
    del config["model_type"], config["transformers_version"]
    config |= {
        "image_size": SIDE_PX,
        "memory_attention_rope_feat_sizes": [SIDE_PX // 16] * 2,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_fuser_num_layers": 1,
        "memory_fuser_intermediate_dim": 32,
    }
    config["prompt_encoder_config"]["image_size"] = SIDE_PX
    config["mask_decoder_config"]["mlp_dim"] = 32
    config["vision_config"] |= {
        "backbone_feature_sizes": [[SIDE_PX // 4] * 2, [SIDE_PX // 8] * 2, [SIDE_PX // 16] * 2],
        "backbone_channel_list": [128, 64, 32, 16],
    }
    config["vision_config"]["backbone_config"] |= {
        "image_size": [SIDE_PX, SIDE_PX],
        "blocks_per_stage": [1, 1, 2, 1],
        "global_attention_blocks": [3],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "hidden_size": 16,
    }
    torch.manual_seed(0)
    return transformers.Sam2VideoModel(transformers.Sam2VideoConfig(**config)).eval()


def test_prompted_objects_are_followed_forwards_then_backwards(small):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:30, 20:50] = True
    prompts = {1: {7: mask, 3: Prompt(box_px=np.array([20.0, 10.0, 50.0, 30.0]))}}
    asked = []

    def read(t):
        asked.append(t)
        return FRAMES[t]

    answers = list(VideoSegmenter(small, "cpu").track(read, (WIDTH, HEIGHT), N_FRAMES, prompts))
    assert [t for t, _ in answers] == [1, 2, 3, 0]
    assert all(sorted(by_object) == [3, 7] for _, by_object in answers)
    assert all(logit.shape == (HEIGHT, WIDTH) for _, by_object in answers for logit in by_object.values())
    found = answers[0][1][7] > 0
    assert (found & mask).sum() / (found | mask).sum() > 0.95
    assert set(asked) == {0, 1, 2, 3}


def test_tracking_is_repeatable(small):
    prompts = {0: {1: Prompt(np.array([[30.5, 20.5]]), np.array([True]))}}
    runs = [list(VideoSegmenter(small, "cpu").track(FRAMES.__getitem__, (WIDTH, HEIGHT), N_FRAMES, prompts)) for _ in range(2)]
    for (t, first), (u, second) in zip(*runs, strict=True):
        assert t == u
        np.testing.assert_array_equal(first[1], second[1])


def test_points_and_box_reach_the_square_input_by_pixel_centres():
    prompt = Prompt(np.array([[0.5, 0.5], [79.5, 59.5]]), np.array([True, False]), np.array([0.0, 0.0, 80.0, 60.0]))
    inputs = _point_inputs(prompt, (80, 60), 160)
    # Corners of the frame are the corners of the input: -0.5 and 159.5 where centres are counted at whole numbers.
    expected = [[-0.5, -0.5], [159.5, 159.5], [0.5, 0.5 * 160 / 60 - 0.5], [158.5, 59.5 * 160 / 60 - 0.5]]
    np.testing.assert_allclose(inputs["point_coords"][0, 0], expected, atol=1e-5)
    assert inputs["point_labels"][0, 0].tolist() == [2, 3, 1, 0]


def test_frames_are_normalised_when_asked_for():
    white = np.full((6, 8, 3), 255, np.uint8)
    frames = LazyFrames(lambda t: white, 5, 4)
    assert len(frames) == 5
    expected = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(frames[3][:, 1, 2], expected, rtol=1e-5)


def test_saved_model_loads_from_its_two_files(small, tmp_path):
    small.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    loaded = load_video_segmenter(tmp_path, "cpu")._model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in small.state_dict().items())


def test_folders_without_such_a_model_are_one_line(torchvision, tmp_path):
    with pytest.raises(UnavailableError, match="holds no model of transformers"):
        load_video_segmenter(tmp_path, "cpu")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UnavailableError, match="is a model of type bert, expected sam2_video or edgetam_video"):
        load_video_segmenter(tmp_path, "cpu")
