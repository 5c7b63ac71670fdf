"""torchmetrics as the reference: where torchvision is installed it imports it, which needs help beside a CPU-only torch."""

from types import ModuleType

import pytest
import torch

_LIBRARY = []
"""torch.library registrations end when their handle is collected."""


@pytest.fixture(scope="session")
def torchmetrics() -> ModuleType:
    """torchmetrics.functional. Skips where it is not installed."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pass
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARY.append(library)
    return pytest.importorskip("torchmetrics.functional")
