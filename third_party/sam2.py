"""SAM 2 (Ravi et al., 2024) and EdgeTAM video memory through Hugging Face transformers. NumPy in, NumPy out.

Frames are read and prepared when the model asks for them, so that a long video is never in memory. Frames are stretched to
the model's square input, so a position maps by one factor per axis.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from third_party.errors import UnavailableError
from third_party.prompt import Prompt

MEAN_RGB = (0.485, 0.456, 0.406)
STD_RGB = (0.229, 0.224, 0.225)
BOX_CORNER_LABELS = (2, 3)

ReadFrame = Callable[[int], UInt8[np.ndarray, "H W 3"]]


class LazyFrames:
    """Looks like the model's dictionary of prepared frames, and prepares each when asked."""

    def __init__(self, read: ReadFrame, n_frames: int, side_px: int) -> None:
        self._read, self._n_frames, self._side_px = read, n_frames, side_px

    def __len__(self) -> int:
        return self._n_frames

    def __getitem__(self, t: int) -> Float32[Tensor, "3 side side"]:
        image = torch.from_numpy(np.ascontiguousarray(self._read(t))).permute(2, 0, 1)[None].float() / 255.0
        resized = F.interpolate(image, size=(self._side_px, self._side_px), mode="bilinear", antialias=True)
        return ((resized - torch.tensor(MEAN_RGB)[:, None, None]) / torch.tensor(STD_RGB)[:, None, None])[0]


class VideoSegmenter:
    """Follows prompted objects through one video."""

    def __init__(self, model: Any, device: str | torch.device) -> None:
        """model: transformers' Sam2VideoModel or EdgeTamVideoModel, in evaluation mode and on `device`."""
        self._model, self._device = model, device
        self._side_px = int(model.config.prompt_encoder_config.image_size)

    def track(
        self,
        read: ReadFrame,
        size: tuple[int, int],
        n_frames: int,
        prompts: Mapping[int, Mapping[int, Prompt | Bool[np.ndarray, "H W"]]],
    ) -> Iterator[tuple[int, dict[int, Float32[np.ndarray, "H W"]]]]:
        """Yield (frame, logits by object id) forwards from the first prompted frame, then backwards from it.

        size: width and height of the frames; prompts: frame -> object id -> a prompt or a whole mask. A frame may come twice
        at most once per direction; logits are positive on the object and negative everywhere when it is hidden.
        """
        session = self._session(read, size, n_frames)
        for t, by_object in sorted(prompts.items()):
            for object_id, prompt in by_object.items():
                self._add(session, t, object_id, prompt, size)
            session.obj_with_new_inputs = list(by_object)
            self._run(session, t, reverse=False)
        first = min(prompts)
        for order, reverse in ((range(first, n_frames), False), (range(first - 1, -1, -1), True)):
            for t in order:
                yield t, self._answer(self._run(session, t, reverse), size)
                self._forget_large(session, t)

    def _session(self, read: ReadFrame, size: tuple[int, int], n_frames: int) -> Any:
        model_class = type(self._model)
        session_class = getattr(
            import_module(model_class.__module__), model_class.__name__.replace("Model", "InferenceSession")
        )
        session = session_class(video_height=size[1], video_width=size[0], inference_device=self._device, dtype=torch.float32)
        session.processed_frames = LazyFrames(read, n_frames, self._side_px)
        return session

    def _add(self, session: Any, t: int, object_id: int, prompt: Any, size: tuple[int, int]) -> None:
        index = session.obj_id_to_idx(object_id)
        if isinstance(prompt, Prompt):
            session.add_point_inputs(index, t, _point_inputs(prompt, size, self._side_px))
            return
        mask = torch.from_numpy(np.ascontiguousarray(prompt))[None, None].float()
        scaled = F.interpolate(mask, size=(self._side_px, self._side_px), mode="bilinear", antialias=True)
        session.add_mask_inputs(index, t, (scaled >= 0.5).float())

    @torch.inference_mode()
    def _run(self, session: Any, t: int, reverse: bool) -> Any:
        return self._model(session, frame_idx=t, reverse=reverse)

    def _answer(self, output: Any, size: tuple[int, int]) -> dict[int, Float32[np.ndarray, "H W"]]:
        width, height = size
        logits = F.interpolate(output.pred_masks.float(), size=(height, width), mode="bilinear")[:, 0].cpu().numpy()
        return dict(zip(output.object_ids, logits, strict=True))

    @staticmethod
    def _forget_large(session: Any, t: int) -> None:
        """Drop the full-size masks of a finished frame: its memory features are what later frames look at."""
        for outputs in session.output_dict_per_obj.values():
            outputs["non_cond_frame_outputs"].get(t, {}).pop("high_res_masks", None)


def _point_inputs(prompt: Prompt, size: tuple[int, int], side_px: int) -> dict[str, Tensor]:
    """Points in the model's square frame; a box is two points with labels of their own, and comes first."""
    points, labels = prompt.points_px, prompt.positive.astype(np.int32)
    if prompt.box_px is not None:
        points = np.concatenate([prompt.box_px.reshape(2, 2), points])
        labels = np.concatenate([np.array(BOX_CORNER_LABELS, np.int32), labels])
    # The model adds the half pixel back.
    scaled = points * (side_px / np.array(size)) - 0.5
    return {
        "point_coords": torch.from_numpy(scaled.astype(np.float32))[None, None],
        "point_labels": torch.from_numpy(labels)[None, None],
    }


def load_video_segmenter(folder: Path, device: str | torch.device) -> VideoSegmenter:
    """The model in a folder with `config.json` and `model.safetensors` (SAM 2 or EdgeTAM, as the configuration says).

    Raises UnavailableError: a package is missing or broken, or the folder holds no such model.
    """
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError) as error:
        raise UnavailableError(f"{folder} holds no model of transformers ({error}): try osn weights list") from None
    model_class = _model_class(kind, folder)
    try:
        model = model_class.from_pretrained(folder, local_files_only=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UnavailableError(f"{folder} cannot be loaded as {kind} ({_first_line(error)})") from None
    except ImportError as error:
        raise UnavailableError(f"{kind} needs another package ({_first_line(error)})") from error
    return VideoSegmenter(model.to(device).eval().requires_grad_(False), device)


def _model_class(kind: str, folder: Path) -> Any:
    try:
        import transformers

        match kind:
            case "sam2_video":
                return transformers.Sam2VideoModel
            case "edgetam_video":
                return transformers.EdgeTamVideoModel
    except ImportError as error:
        raise UnavailableError(
            f"SAM 2 needs transformers, which cannot be imported ({_first_line(error)}): install the extra with "
            "pip install 'osn-cli[sam2]', torch and torchvision from the same index"
        ) from error
    raise UnavailableError(f"{folder} is a model of type {kind}, expected sam2_video or edgetam_video: try osn weights list")


def _first_line(error: BaseException) -> str:
    lines: Iterable[str] = str(error).splitlines() or [type(error).__name__]
    return next(iter(lines))
