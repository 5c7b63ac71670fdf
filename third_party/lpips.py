"""LPIPS (Zhang et al., CVPR 2018) through the `lpips` package, without its silent download of the backbone.

The package brings the linear heads; the ImageNet backbone's weights come from this machine (`third_party.weights`).
"""

import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from third_party.errors import UnavailableError

Distance = Callable[[Float[np.ndarray, "H W 3"], Float[np.ndarray, "H W 3"]], float]


def load_lpips(path: Path, net: str, device: str | torch.device) -> Distance:
    """A distance of two RGB images in [0, 1]: 0 for equal ones, lower is more alike.

    path: torchvision's ImageNet weights of the backbone `net`, alex or vgg.
    Raises UnavailableError: a package is missing or broken, or the file holds other weights.
    """
    network = _network(net)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        network.net.load_state_dict(backbone_names(stored, network.net.state_dict()))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, TypeError) as error:
        raise UnavailableError(f"{path} does not hold the weights of {net} ({_first_line(error)})") from None
    network.to(device).requires_grad_(False)

    @torch.inference_mode()
    def distance(first: Float[np.ndarray, "H W 3"], second: Float[np.ndarray, "H W 3"]) -> float:
        pair = (torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() for image in (first, second))
        return float(network(*(image.to(device) for image in pair), normalize=True))

    return distance


def backbone_names(stored: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's `features.N.*` by the names `sliceM.N.*` under which the package keeps the same layers."""
    return {name: stored[re.sub(r"^slice\d+", "features", name)] for name in wanted}


def _network(net: str) -> Any:
    try:
        import lpips

        with warnings.catch_warnings():
            # The package names torchvision's options by their old spelling.
            warnings.simplefilter("ignore")
            return lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    except (ImportError, RuntimeError) as error:
        raise UnavailableError(
            f"LPIPS cannot be imported ({_first_line(error)}): install the extra with pip install 'osn-cli[lpips]', "
            "torch and torchvision from the same index"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
