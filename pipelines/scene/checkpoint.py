"""Checkpoints of an unfinished training run: one file, written atomically.

A step's random numbers are a function of the seed and the step's number, so no generator state has to be kept.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.stage import digest

NAME = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """State before step `step`."""

    step: int
    model: dict[str, Any]
    resolutions: list[int]
    optimisers: list[Any]
    zone: dict[str, np.ndarray] | None
    network: dict[str, Any] | None
    seconds: dict[str, float]


def write(folder: Path, config: Any, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint; a kill leaves the old one or the new one."""
    content = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    if checkpoint.zone is not None:
        content["zone"] = {name: torch.as_tensor(array) for name, array in checkpoint.zone.items()}
    partial = folder / f".{NAME}"
    with partial.open("wb") as file:
        torch.save({"config": digest(config), **content}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / NAME)


def read(folder: Path, config: Any, device: torch.device) -> Checkpoint | None:
    """The folder's checkpoint, or None when there is none of this configuration."""
    if not (folder / NAME).is_file():
        return None
    content = torch.load(folder / NAME, map_location=device, weights_only=True)
    if content.pop("config") != digest(config):
        return None
    if content["zone"] is not None:
        content["zone"] = {name: tensor.cpu().numpy() for name, tensor in content["zone"].items()}
    return Checkpoint(**content)


def remove(folder: Path) -> None:
    """The run is complete."""
    (folder / NAME).unlink(missing_ok=True)
