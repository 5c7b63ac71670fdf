"""Our RAFT against torchvision's with the same weights, and its parts against slow obvious references."""

from pathlib import Path

import numpy as np
import pytest
import torch

from third_party.errors import UnavailableError
from third_party.raft.checkpoint import authors_names, load_raft
from third_party.raft.correlation import AllPairs, OnTheFly, make_correlation, sample_cells
from third_party.raft.estimator import padded_flow, raft_estimator
from third_party.raft.network import Raft, RaftSize, upsample_bilinear, upsample_convex

VOLUME_BYTES = 2**28


@pytest.fixture
def authors_small(shared_data: Path) -> Path:
    path = shared_data / "weights" / "raft-small.pth"
    if not path.is_file():
        pytest.skip("the authors' raft-small checkpoint is not on this machine")
    return path


def smooth_images(n: int, height: int, width: int) -> torch.Tensor:
    """Random smooth images in [-1, 1]."""
    noise = torch.rand((n, 3, height // 4, width // 4), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(noise, size=(height, width), mode="bicubic").clamp(-1, 1)


def reference(torchvision, size: RaftSize) -> torch.nn.Module:
    """torchvision's network with repeatable weights, normalisation statistics included."""
    from torchvision.models.optical_flow import raft_large, raft_small

    torch.manual_seed(1)
    network = (raft_small if size is RaftSize.SMALL else raft_large)(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


@pytest.mark.parametrize("size", list(RaftSize))
def test_agrees_with_torchvision_from_its_own_checkpoint(torchvision, size, tmp_path):
    theirs = reference(torchvision, size)
    torch.save(theirs.state_dict(), tmp_path / "torchvision.pth")
    ours = load_raft(tmp_path / "torchvision.pth", size, "cpu")
    first, second = smooth_images(2, 128, 160).split(1)
    with torch.inference_mode():
        expected = theirs(first, second, num_flow_updates=4)[-1]
        found = ours(first, second, iterations=4)
    assert expected.abs().mean() > 0.01
    assert (found - expected).norm(dim=1).mean() < 1e-3


def test_agrees_with_torchvision_on_the_authors_weights(torchvision, authors_small, playroom):
    import cv2

    theirs = reference(torchvision, RaftSize.SMALL)
    weights = load_raft(authors_small, RaftSize.SMALL, "cpu").state_dict()
    names = {
        authors: name for name in theirs.state_dict() for authors in authors_names({name: torch.zeros(())}, RaftSize.SMALL)
    }
    theirs.load_state_dict({names[authors]: value for authors, value in weights.items()})
    frames = [cv2.imread(str(path))[..., ::-1].copy() for path in sorted((playroom / "images_train").iterdir())[:5:4]]
    first, second = (torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1 for frame in frames)
    ours = load_raft(authors_small, RaftSize.SMALL, "cpu")
    with torch.inference_mode():
        expected = theirs(first, second, num_flow_updates=12)[-1]
        found = ours(first, second, iterations=12)
    assert expected.norm(dim=1).max() > 10
    assert (found - expected).norm(dim=1).mean() < 1e-3


def test_authors_weights_recover_a_large_translation(authors_small, playroom):
    import cv2

    image = cv2.imread(str(min((playroom / "images_train").iterdir())))[..., ::-1].copy()
    first, second = image[10:210, 60:300], image[4:204, 38:278]
    estimate = raft_estimator(authors_small, RaftSize.SMALL, iterations=12, device="cpu", max_volume_bytes=VOLUME_BYTES)
    error = np.linalg.norm(estimate(first, second) - [22, 6], axis=-1)
    assert np.median(error) < 0.3


def test_a_good_first_guess_is_kept(authors_small, playroom):
    import cv2

    image = cv2.imread(str(min((playroom / "images_train").iterdir())))[..., ::-1].copy()
    first, second = image[10:210, 100:300], image[4:204, 12:212]
    estimate = raft_estimator(authors_small, RaftSize.SMALL, iterations=4, device="cpu", max_volume_bytes=VOLUME_BYTES)
    truth = np.full((200, 200, 2), [88, 6], np.float32)
    inner = np.s_[20:-20, 20:100]

    def median_error_px(guess):
        return np.median(np.linalg.norm(estimate(first, second, guess) - truth, axis=-1)[inner])

    assert median_error_px(truth + 2) < 0.3 < median_error_px(None)


def test_authors_large_checkpoint_loads_with_its_repeated_norms(tmp_path):
    torch.manual_seed(0)
    weights = Raft(RaftSize.LARGE).state_dict()
    repeated = {name.replace("downsample.1", "norm3"): value for name, value in weights.items() if "downsample.1" in name}
    assert len(repeated) == 10
    torch.save({f"module.{name}": value for name, value in (weights | repeated).items()}, tmp_path / "raft.pth")
    loaded = load_raft(tmp_path / "raft.pth", RaftSize.LARGE, "cpu").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


def test_checkpoint_of_the_other_size_is_refused(tmp_path):
    torch.save(Raft(RaftSize.LARGE).state_dict(), tmp_path / "large.pth")
    with pytest.raises(UnavailableError, match=r"not a RAFT-small checkpoint: \d+ weights differ"):
        load_raft(tmp_path / "large.pth", RaftSize.SMALL, "cpu")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(UnavailableError, match="is not a PyTorch checkpoint"):
        load_raft(tmp_path / "page.pth", RaftSize.SMALL, "cpu")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({"fnet": Path("anything")}, tmp_path / "code.pth")
    with pytest.raises(UnavailableError, match="is not a PyTorch checkpoint"):
        load_raft(tmp_path / "code.pth", RaftSize.SMALL, "cpu")


def test_correlation_on_numbers_worked_by_hand():
    """One channel, second features 10 y + x: the window around (2, 1) at level 0 reads them, x changing slowest."""
    second = (10.0 * torch.arange(8)[:, None] + torch.arange(8))[None, None]
    first = torch.ones_like(second)
    found = AllPairs(first, second, radius=1).lookup(torch.tensor([2.0, 1.0]).reshape(1, 2, 1, 1).expand(1, 2, 8, 8))
    assert found.shape == (1, 4 * 9, 8, 8)
    assert found[0, :9, 3, 3].tolist() == pytest.approx([1, 11, 21, 2, 12, 22, 3, 13, 23], abs=1e-4)
    # Level 1 averages 2 x 2 cells, (i, j) holding 10 (2 i + 0.5) + 2 j + 0.5; its position is (1, 0.5).
    assert found[0, 9 + 4, 3, 3].item() == pytest.approx(10 * 1.5 + 2.5, abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 6, 16, 20), (2, 5, 17, 19)])
def test_correlation_on_the_fly_equals_all_pairs(shape):
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    position = torch.rand((shape[0], 2, *shape[2:]), generator=generator) * 30 - 5
    all_pairs = AllPairs(first, second, 3).lookup(position)
    assert torch.allclose(OnTheFly(first, second, 3).lookup(position), all_pairs, atol=1e-5)


def test_correlation_is_chosen_by_the_memory_that_it_needs():
    features = torch.zeros((1, 2, 16, 16))
    volume_bytes = (16 * 16) ** 2 * 4 * 4 // 3
    assert isinstance(make_correlation(features, features, 3, volume_bytes), AllPairs)
    assert isinstance(make_correlation(features, features, 3, volume_bytes - 1), OnTheFly)


def test_cells_outside_the_frame_are_zero():
    grid = torch.ones((1, 1, 4, 4))
    position = torch.tensor([[-0.5, 0.0], [3.0, 3.0], [4.0, 0.0], [3.25, 1.0]])[None, None]
    assert sample_cells(grid, position).flatten().tolist() == pytest.approx([0.5, 1.0, 0.0, 0.75])


def test_convex_upsampling_of_equal_weights_is_the_mean_of_the_neighbours():
    flow = torch.randn((1, 2, 4, 5), generator=torch.Generator().manual_seed(0))
    fine = upsample_convex(flow, torch.zeros((1, 9 * 64, 4, 5)))
    assert fine.shape == (1, 2, 32, 40)
    expected = 8 * flow[0, :, 0:3, 1:4].mean((1, 2))
    assert torch.allclose(fine[0, :, 8:16, 16:24], expected[:, None, None].expand(2, 8, 8), atol=1e-5)


def test_convex_upsampling_places_the_weights_of_a_cell_inside_that_cell():
    """All weight on the right-hand neighbour for the sub-pixel in row 2, column 5, on the cell itself elsewhere."""
    flow = torch.arange(20.0).reshape(1, 1, 4, 5).repeat(1, 2, 1, 1)
    weights = torch.full((1, 9, 8, 8, 4, 5), -50.0)
    weights[:, 4] = 50.0
    weights[:, 4, 2, 5], weights[:, 5, 2, 5] = -50.0, 50.0
    fine = upsample_convex(flow, weights.reshape(1, -1, 4, 5))
    cell = fine[0, 0, 8:16, 16:24]
    assert cell[2, 5].item() == pytest.approx(8 * 8)
    assert cell[0, 0].item() == pytest.approx(8 * 7) and cell[5, 2].item() == pytest.approx(8 * 7)


def test_bilinear_upsampling_keeps_a_constant_flow_in_px():
    assert torch.allclose(upsample_bilinear(torch.full((1, 2, 3, 4), 0.5)), torch.full((1, 2, 24, 32), 4.0))


def test_padding_changes_no_pixel_of_a_frame_that_needs_none_and_keeps_odd_sizes():
    torch.manual_seed(0)
    network = Raft(RaftSize.SMALL).eval()
    images = smooth_images(2, 136, 144)
    first, second = images.split(1)
    with torch.inference_mode():
        plain = network(first, second, 2)
        assert torch.equal(padded_flow(network, first, second, 2, VOLUME_BYTES), plain)
        odd = padded_flow(network, first[..., :131, :141], second[..., :131, :141], 2, VOLUME_BYTES)
        tiny = padded_flow(network, first[..., :20, :30], second[..., :20, :30], 2, VOLUME_BYTES)
    assert odd.shape == (1, 2, 131, 141) and tiny.shape == (1, 2, 20, 30)
