"""LPIPS with a backbone from a file, against the package's own network with the same weights."""

import sys

import numpy as np
import pytest
import torch

from third_party.errors import UnavailableError
from third_party.lpips import load_lpips

IMAGES = np.random.default_rng(0).random((2, 64, 64, 3))


@pytest.fixture(scope="module")
def backbone(torchvision, tmp_path_factory):
    """A checkpoint of torchvision's AlexNet with random weights, without the classifier that LPIPS leaves out."""
    pytest.importorskip("lpips", reason="lpips (extra lpips) is not installed")
    from torchvision.models import alexnet

    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save({name: value for name, value in alexnet().state_dict().items() if name.startswith("features")}, path)
    return path


def test_distance_is_the_packages_with_the_backbone_of_the_file(backbone):
    import lpips

    with pytest.warns(UserWarning):
        theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).requires_grad_(False)
    stored = torch.load(backbone, weights_only=True)
    for name, layer in theirs.net.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.load_state_dict({kind: stored[f"features.{name.split('.')[1]}.{kind}"] for kind in ("weight", "bias")})
    pair = (torch.from_numpy(image).permute(2, 0, 1)[None].float() for image in IMAGES)
    expected = float(theirs(*pair, normalize=True))
    distance = load_lpips(backbone, "alex", "cpu")
    assert expected > 0
    assert distance(*IMAGES) == pytest.approx(expected, rel=1e-5)
    assert distance(IMAGES[0], IMAGES[0]) == 0


def test_other_weights_are_one_line(backbone, tmp_path):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UnavailableError, match=r"other\.pth does not hold the weights of alex"):
        load_lpips(tmp_path / "other.pth", "alex", "cpu")


def test_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UnavailableError, match=r"pip install 'osn-cli\[lpips\]'"):
        load_lpips(tmp_path / "any.pth", "alex", "cpu")
