"""torchvision as the reference: beside a CPU-only torch its compiled operators need help before they can be imported."""

from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """torchvision, with a plain `nms` where its own extension does not load. Skips where it is not installed."""
    try:
        import torchvision
    except ImportError:
        pytest.skip("torchvision is not installed (pip install --no-deps torchvision, the version that matches torch)")
    except RuntimeError:
        torchvision = _import_beside_cpu_torch()
    return torchvision


_LIBRARY = []
"""torch.library registrations end when their handle is collected."""


def _import_beside_cpu_torch() -> ModuleType:
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", plain_nms, "CPU")
    _LIBRARY.append(library)
    import torchvision
    import torchvision.ops.boxes

    torchvision.ops.boxes._assert_has_ops = lambda: None
    return torchvision


def plain_nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression: indices of the boxes kept, best first."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        low = torch.maximum(boxes[kept, :2], boxes[i, :2])
        high = torch.minimum(boxes[kept, 2:], boxes[i, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        if not bool((shared / (area[kept] + area[i] - shared) > iou_threshold).any()):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)
