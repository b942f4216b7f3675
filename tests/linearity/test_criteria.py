"""Published criteria against numbers worked out by hand."""

from math import log2

import pytest
import torch
from torch import nn

from liftscape.linearity import block_influence, state_entropy

F64 = torch.float64


def test_entropy_of_states_of_neurons_and_channels() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Tanh()).to(F64)
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[0].bias.zero_()
    x = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [1.0, -2.0]], dtype=F64)
    batches = [(x[:1], x[:1]), (x[1:], x[1:])]
    found = state_entropy(net, batches)
    assert found["1"] == pytest.approx((0 + 1) / 2, abs=1e-12)
    assert state_entropy(net, x, ["1"])["1"] == found["1"]
    quarter = -(0.25 * log2(0.25) + 0.75 * log2(0.75))
    conv = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()).to(F64)
    with torch.no_grad():
        conv[0].weight.fill_(1.0)
        conv[0].bias.zero_()
    assert state_entropy(conv, torch.tensor([1.0, -1, -1, -1], dtype=F64).reshape(1, 1, 2, 2))["1"] == pytest.approx(
        quarter
    )


def test_influence_of_blocks() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn = nn.Linear(2, 2, bias=False)

        def forward(self, x):
            return x + self.turn(x)

    net = nn.Sequential(nn.Identity(), Block(), Block(), nn.Linear(2, 3)).to(F64)
    with torch.no_grad():
        net[1].turn.weight.zero_()
        net[2].turn.weight.copy_(torch.tensor([[-1.0, -1.0], [1.0, -1.0]]))  # x + turn(x) is a quarter turn
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    found = block_influence(net, [("1", "1"), ("2", "2"), ("1", "2"), ("3", "3")], [(x[:3], x[:3]), (x[3:], x[3:])])
    assert found["1", "1"] == pytest.approx(0, abs=1e-12)
    assert found["2", "2"] == pytest.approx(1)
    assert found["1", "2"] == pytest.approx(1)
    assert found["3", "3"] != found["3", "3"]
