"""RAFT weights: the authors' checkpoints, and torchvision's checkpoints of the same networks."""

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from third_party.errors import UnavailableError
from third_party.raft.network import Raft, RaftSize

TORCHVISION_RENAMES = (
    (r"^feature_encoder\.", "fnet."),
    (r"^context_encoder\.", "cnet."),
    (r"^(fnet|cnet)\.convnormrelu\.0\.", r"\1.conv1."),
    (r"^(fnet|cnet)\.convnormrelu\.1\.", r"\1.norm1."),
    (r"^(fnet|cnet)\.conv\.", r"\1.conv2."),
    (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
    (r"\.convnormrelu(\d)\.1\.", r".norm\1."),
    (r"\.motion_encoder\.convcorr(\d)\.0\.", r".encoder.convc\1."),
    (r"\.motion_encoder\.convflow(\d)\.0\.", r".encoder.convf\1."),
    (r"\.motion_encoder\.conv\.0\.", ".encoder.conv."),
    (r"^mask_predictor\.convrelu\.0\.", "update_block.mask.0."),
    (r"^mask_predictor\.conv\.", "update_block.mask.2."),
)
"""torchvision's parameter names to the authors'; the recurrent unit is renamed by size."""

ALIAS = re.compile(r"\.norm[34]\.")
"""The authors' blocks register the norm of the skip connection twice; `downsample.1` is the name kept here."""


def load_raft(path: Path, size: RaftSize, device: str | torch.device) -> Raft:
    """The network with the weights of a checkpoint, ready for inference.

    Raises UnavailableError: the file is no checkpoint, or one of another network.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnavailableError(f"{path} is not a PyTorch checkpoint ({reason})") from None
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise UnavailableError(f"{path} holds no named weights, expected a state dictionary of RAFT")
    network = Raft(size)
    weights = authors_names(stored, size)
    expected = network.state_dict()
    wrong = sorted(
        (expected.keys() ^ weights.keys())
        | {name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape}
    )
    if wrong:
        raise UnavailableError(f"{path} is not a RAFT-{size} checkpoint: {len(wrong)} weights differ, the first is {wrong[0]}")
    network.load_state_dict(weights)
    return network.to(device).eval().requires_grad_(False)


def authors_names(stored: dict[str, Tensor], size: RaftSize) -> dict[str, Tensor]:
    """Weights by the names that `Raft` uses, from either kind of checkpoint."""
    renamed = {}
    for name, value in stored.items():
        renamed[_authors_name(name.removeprefix("module."), size)] = value
    return _without_aliases(renamed)


def _authors_name(name: str, size: RaftSize) -> str:
    for pattern, replacement in TORCHVISION_RENAMES:
        name = re.sub(pattern, replacement, name)
    if size is RaftSize.SMALL:
        return re.sub(r"\.recurrent_block\.convgru1\.conv([zrq])\.", r".gru.conv\1.", name)
    return re.sub(r"\.recurrent_block\.convgru([12])\.conv([zrq])\.", r".gru.conv\2\1.", name)


def _without_aliases(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop norms that only repeat a skip connection's."""

    def repeated(name: str) -> bool:
        return ALIAS.search(name) is not None and ALIAS.sub(".downsample.1.", name) in weights

    return {name: value for name, value in weights.items() if not repeated(name)}
