"""LPIPS (Zhang et al., CVPR 2018), where the extra and the weights of its backbone are on this machine."""

from pipelines.dependencies import third_party
from pipelines.evaluation.views import Perceptual


def lpips_metric(net: str = "alex") -> Perceptual:
    """Distance of two images in [0, 1]; lower is more alike.

    Raises MissingDependencyError: the package or the weights of its network are not on this machine; nothing is downloaded.
    """
    with third_party():
        from third_party import weights
        from third_party.lpips import load_lpips

        return load_lpips(weights.find(f"lpips-{net}"), net, "cpu")
