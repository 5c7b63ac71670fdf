"""Segment Anything (Kirillov et al., ICCV 2023) through Meta's `segment-anything` package. NumPy in, NumPy out."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch.nn import functional as F

from third_party.errors import UnavailableError
from third_party.prompt import Prediction, Prompt

ARCHITECTURES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""Width of the image encoder to the package's name of the architecture."""

PRIOR_LOGIT = 10.0
"""How sure a mask prior is of its pixels; the model's own logits reach about this."""


class SamPredictor:
    """One image at a time: `set_image` runs the encoder once, `predict` answers any number of prompts on it."""

    def __init__(self, model: Any) -> None:
        """model: a `segment_anything.modeling.Sam`, in evaluation mode and on its device."""
        segment_anything = _package()
        self._predictor = segment_anything.SamPredictor(model)

    @property
    def low_res_side(self) -> int:
        """Side of the low-resolution logits that a prompt may carry."""
        return 4 * int(self._predictor.model.prompt_encoder.image_embedding_size[0])

    def prior(self, mask: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "side side"]:
        """Logits that a prompt may carry for a mask known from elsewhere, in the model's padded square."""
        side = self.low_res_side
        factor = side / max(mask.shape)
        size = round(mask.shape[0] * factor), round(mask.shape[1] * factor)
        share = F.interpolate(torch.from_numpy(mask)[None, None].float(), size=size, mode="bilinear", antialias=True)
        logits = np.full((side, side), -PRIOR_LOGIT, np.float32)
        logits[: size[0], : size[1]] = PRIOR_LOGIT * (2 * share[0, 0].numpy() - 1)
        return logits

    def set_image(self, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Encode an RGB image (the expensive part)."""
        self._predictor.set_image(image)

    def predict(self, prompt: Prompt) -> Prediction:
        """The object that the prompt means, in the image that was set.

        A single point is ambiguous (part or whole?), so the best of three answers is taken.
        """
        ambiguous = len(prompt.points_px) == 1 and prompt.box_px is None and prompt.logits is None
        logits, scores, low_res = self._predictor.predict(
            point_coords=_indices(prompt.points_px) if len(prompt.points_px) else None,
            point_labels=prompt.positive.astype(np.int64) if len(prompt.points_px) else None,
            box=None if prompt.box_px is None else _indices(prompt.box_px),
            mask_input=None if prompt.logits is None else prompt.logits[None],
            multimask_output=ambiguous,
            return_logits=True,
        )
        best = int(np.argmax(scores))
        return Prediction(logits[best], float(scores[best]), low_res[best])


def load_sam(path: Path, device: str | torch.device) -> SamPredictor:
    """A predictor with the weights of an official checkpoint (vit_b, vit_l or vit_h, told by its shapes).

    Raises UnavailableError: a package is missing or broken, or the file is no such checkpoint.
    """
    segment_anything = _package()
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        architecture = ARCHITECTURES[stored["image_encoder.pos_embed"].shape[-1]]
        model = segment_anything.sam_model_registry[architecture](checkpoint=None)
        model.load_state_dict(stored)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnavailableError(f"{path} is not a Segment Anything checkpoint ({reason}): try osn weights list") from None
    return SamPredictor(model.to(device).eval().requires_grad_(False))


def _indices(xy_px: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The package counts pixel centres at whole numbers."""
    return xy_px - 0.5


def _package() -> Any:
    """Raises UnavailableError: segment-anything, or torchvision, which it needs, cannot be imported."""
    try:
        import segment_anything
    except ImportError as error:
        raise UnavailableError(
            f"Segment Anything needs the package {error.name}: install the extra with pip install 'osn-cli[sam]'"
        ) from error
    except RuntimeError as error:
        raise UnavailableError(
            f"Segment Anything needs torchvision, which does not fit torch {torch.__version__} ({error}): install both "
            "from the same index, e.g. pip install --index-url https://download.pytorch.org/whl/cpu torch torchvision"
        ) from error
    return segment_anything
