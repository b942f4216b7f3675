"""Membership of a lifted manifold beside huge and tiny weights and features, against outputs by plain torch."""

import copy

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls

F64 = torch.float64


def network(scale: float, dtype: torch.dtype = F64) -> tuple[nn.Sequential, Tensor]:
    """A network whose features come at a scale that its first weights undo."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)
    with torch.no_grad():
        model[0].weight /= scale
    return model, (torch.randn(20, 3, dtype=F64) * scale).to(dtype)


def with_huge_weight(size: float) -> tuple[nn.Sequential, Tensor]:
    """A network with a huge out-weight of a neuron that is always zero."""
    model, x = network(1.0)
    with torch.no_grad():
        model[0].weight[0], model[0].bias[0], model[2].weight[0, 0] = 0, 0, size
    return model, x


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e4, 1e8])
def test_own_points_are_members_at_every_scale(scale: float, dtype: torch.dtype) -> None:
    model, x = network(scale, dtype)
    manifold = ls.lift(model, x, "0", activation="relu").manifold
    assert manifold.contains(manifold.model), manifold.contains(manifold.model).reason
    for seed in range(3):
        member = manifold.contains(manifold.sample(torch.Generator().manual_seed(seed)))
        assert member, member.reason


@pytest.mark.parametrize("size", [1.0, 1e4, 1e8, 1e12])
@pytest.mark.parametrize("name", ["0.B.weight", "0.A.weight", "2.weight", "2.bias", "0.B.bias"])
def test_a_point_whose_outputs_differ_is_no_member(size: float, name: str) -> None:
    model, x = with_huge_weight(size)
    manifold = ls.lift(model, x, "0", activation="relu").manifold
    moved = copy.deepcopy(manifold.model)
    with torch.no_grad():
        moved.get_parameter(name)[-1] += 0.05
    assert float((moved(x) - model(x)).detach().abs().max()) > 1e-4
    assert not manifold.contains(moved)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_a_small_move_beside_large_features_is_seen(scale: float) -> None:
    model, x = network(scale)
    manifold = ls.lift(model, x, "0", activation="relu").manifold
    moved = copy.deepcopy(manifold.model)
    with torch.no_grad():
        moved[2].weight[1, 1] *= 1 + 1e-6
    assert not manifold.contains(moved)
