"""LPIPS (Zhang et al., CVPR 2018), where the extra is installed. Its weights are fetched by the lpips package itself."""

import numpy as np
from jaxtyping import Float

from pipelines.errors import MissingDependencyError
from pipelines.evaluation.views import Perceptual


def lpips_metric(net: str = "alex") -> Perceptual:
    """Distance of two images in [0, 1]; lower is more alike.

    Raises MissingDependencyError: the package or the weights of its network are not on this machine.
    """
    import torch

    try:
        import lpips

        network = lpips.LPIPS(net=net, verbose=False).eval()
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingDependencyError(
            f"no LPIPS: it needs `pip install 'osn-cli[lpips]'` and the weights of its network ({reason})"
        ) from None

    def distance(predicted: Float[np.ndarray, "H W 3"], true: Float[np.ndarray, "H W 3"]) -> float:
        pair = [torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() for image in (predicted, true)]
        with torch.no_grad():
            return float(network(*pair, normalize=True))

    return distance
