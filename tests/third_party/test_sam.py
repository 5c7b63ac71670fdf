"""The Segment Anything adapter, on small networks of random weights and on a checkpoint of the true format."""

import sys

import numpy as np
import pytest
import torch

from third_party.errors import UnavailableError
from third_party.prompt import Prediction, Prompt
from third_party.sam import SamPredictor, load_sam

IMAGE = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)


@pytest.fixture
def small(torchvision):
    """Segment Anything with a shallow encoder and an input of 64 px."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(0)
    encoder = ImageEncoderViT(img_size=64, embed_dim=16, depth=1, num_heads=2, out_chans=32, use_rel_pos=True, window_size=2)
    prompts = PromptEncoder(embed_dim=32, image_embedding_size=(4, 4), input_image_size=(64, 64), mask_in_chans=4)
    transformer = TwoWayTransformer(depth=1, embedding_dim=32, mlp_dim=16, num_heads=2)
    decoder = MaskDecoder(transformer_dim=32, transformer=transformer)
    return Sam(encoder, prompts, decoder).eval()


def test_prediction_has_the_size_of_the_image_and_can_be_prompted_again(small):
    predictor = SamPredictor(small)
    predictor.set_image(IMAGE)
    box = np.array([5.0, 5.0, 20.0, 15.0])
    first = predictor.predict(Prompt(box_px=box))
    assert first.logit.shape == (30, 40) and first.low_res.shape == (16, 16) and predictor.low_res_side == 16
    np.testing.assert_array_equal(first.mask, first.logit > 0)
    again = predictor.predict(Prompt(box_px=box, logits=first.low_res))
    assert not np.array_equal(again.logit, first.logit)
    np.testing.assert_array_equal(predictor.predict(Prompt(box_px=box)).logit, first.logit)


def test_pixel_centres_are_shifted_to_the_packages_convention(small, monkeypatch):
    from segment_anything import SamPredictor as Theirs

    asked = {}

    def predict(self, **options):
        asked.update(options)
        return np.zeros((3, 2, 2), np.float32), np.array([0.1, 0.9, 0.2]), np.arange(12, dtype=np.float32).reshape(3, 2, 2)

    monkeypatch.setattr(Theirs, "predict", predict)
    predictor = SamPredictor(small)
    answer = predictor.predict(Prompt(np.array([[0.5, 0.5]]), np.array([True])))
    assert asked["point_coords"].tolist() == [[0.0, 0.0]] and asked["point_labels"].tolist() == [1]
    assert asked["multimask_output"] and asked["box"] is None and asked["mask_input"] is None
    assert answer.score == 0.9 and answer.low_res.tolist() == [[4.0, 5.0], [6.0, 7.0]]
    predictor.predict(Prompt(np.array([[0.5, 0.5]]), np.array([False]), np.array([1.0, 2.0, 3.0, 4.0])))
    assert asked["box"].tolist() == [0.5, 1.5, 2.5, 3.5] and not asked["multimask_output"]


def test_prior_of_a_mask_lies_in_the_padded_square(small):
    predictor = SamPredictor(small)
    mask = np.zeros((30, 40), bool)
    mask[:, 20:] = True
    prior = predictor.prior(mask)
    assert prior.shape == (16, 16)
    # 40 x 30 px become 16 x 12 of the 16 x 16 cells; the rest is padding.
    assert (prior[:12, 9:] > 9).all() and (prior[:12, :7] < -9).all() and (prior[12:] == -10).all()


def test_mask_is_where_the_logit_is_positive():
    answer = Prediction(np.array([[-1.0, 0.0, 2.0]], np.float32), 0.5, np.zeros((1, 1), np.float32))
    assert answer.mask.tolist() == [[False, False, True]]


@pytest.mark.slow
def test_official_checkpoint_format_loads(torchvision, tmp_path):
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    weights = sam_model_registry["vit_b"](checkpoint=None).state_dict()
    torch.save(weights, tmp_path / "sam_vit_b.pth")
    predictor = load_sam(tmp_path / "sam_vit_b.pth", "cpu")
    assert predictor.low_res_side == 256
    loaded = predictor._predictor.model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


def test_other_checkpoints_are_one_line(torchvision, tmp_path):
    torch.save({"image_encoder.pos_embed": torch.zeros(1, 4, 4, 99)}, tmp_path / "other.pth")
    with pytest.raises(UnavailableError, match=r"other\.pth is not a Segment Anything checkpoint"):
        load_sam(tmp_path / "other.pth", "cpu")


def test_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(UnavailableError, match=r"pip install 'osn-cli\[sam\]'"):
        load_sam(tmp_path / "any.pth", "cpu")


def test_torchvision_that_does_not_fit_torch_names_the_remedy(monkeypatch, tmp_path):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "segment_anything":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "segment_anything", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(UnavailableError, match=r"torchvision, which does not fit torch .*--index-url"):
        load_sam(tmp_path / "any.pth", "cpu")
