"""RAFT on CUDA gives what it gives on the CPU."""

import torch

from third_party.raft.correlation import AllPairs, OnTheFly
from third_party.raft.network import Raft, RaftSize


def test_both_devices_agree():
    torch.manual_seed(0)
    network = Raft(RaftSize.SMALL).eval()
    first, second = torch.rand((2, 1, 3, 128, 160)) * 2 - 1
    with torch.inference_mode():
        expected = network(first, second, 4)
        found = network.cuda()(first.cuda(), second.cuda(), 4).cpu()
    assert (found - expected).norm(dim=1).mean() < 0.02


def test_correlation_on_the_fly_equals_all_pairs_on_cuda():
    features = torch.randn((2, 1, 6, 16, 20), device="cuda")
    position = torch.rand((1, 2, 16, 20), device="cuda") * 20
    all_pairs = AllPairs(*features, 3).lookup(position)
    assert torch.allclose(OnTheFly(*features, 3).lookup(position), all_pairs, atol=1e-2)
