"""Dead neurons leave without a trace in the outputs, and nothing else does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import liftscape as ls
from liftscape.folding import trim

F64 = torch.float64


@given(
    kind=st.sampled_from(["linear", "convolution", "padded", "normed"]),
    activation=st.sampled_from(["relu", "hardtanh", "prelu", "relu6"]),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_outputs_stay_and_dead_neurons_go(kind: str, activation: str, bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    made = {"relu": nn.ReLU(), "hardtanh": nn.Hardtanh(), "prelu": nn.PReLU(6, 0.0), "relu6": nn.ReLU6()}[activation]
    if kind == "linear":
        layers, shape = [nn.Linear(3, 6), made, nn.Linear(6, 2, bias=bias)], (3,)
    elif kind == "normed":
        layers, shape = [nn.Linear(3, 6), nn.BatchNorm1d(6), made, nn.Linear(6, 2, bias=bias)], (3,)
    else:
        pad = int(kind == "padded")
        layers, shape = [nn.Conv2d(2, 6, 3), made, nn.Conv2d(6, 2, 3, padding=pad, bias=bias)], (2, 7, 7)
    model = nn.Sequential(*layers).to(F64).eval()
    with torch.no_grad():
        model[0].bias[:] = torch.tensor([0.0, -80.0, 0.1, -90.0, 80.0, -0.1])
    x = torch.randn(30, *shape, dtype=F64)
    found = trim(model, x)
    row = found.rows[0]
    dead = ls.fold(model, x).report[0].dead
    constant = activation in {"hardtanh", "relu6"} and kind == "padded"
    # The saturated ones of Hardtanh hand on −1 or 1, those of ReLU6 0 or 6, which padding would lack.
    assert row.removed <= dead
    if not constant:
        assert row.removed == min(dead, 5) >= 2
    assert found.parameters_after < found.parameters_before or row.removed == 0
    assert found.operations_after < found.operations_before or row.removed == 0
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), model(x), rtol=1e-11, atol=1e-11)
    again = trim(found.model, x)
    assert constant or sum(each.removed for each in again.rows) == 0


def test_a_layer_of_dead_neurons_keeps_one_and_several_layers_are_trimmed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)).to(F64)
    with torch.no_grad():
        model[0].bias.fill_(-50)
        model[2].bias[:2] = -50
    x = torch.randn(20, 3, dtype=F64)
    found = trim(ls.EmpiricalRisk(model, "mse", (x, x[:, :1])))
    assert found.model[0].weight.shape == (1, 3)
    assert found.rows[0].removed == 3
    assert found.rows[1].removed >= 2
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), model(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ls.LiftscapeError, match="give inputs, or a risk"):
        trim(model)


@pytest.mark.parametrize("groups", [(2, 1), (1, 2)])
def test_nothing_leaves_beside_a_convolution_in_groups(groups: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, groups=groups[0]), nn.ReLU(), nn.Conv2d(4, 2, 3, groups=groups[1])).to(F64)
    with torch.no_grad():
        model[0].bias[:2] = -90.0
    x = torch.randn(9, 2, 7, 7, dtype=F64)
    found = trim(model, x)
    assert found.rows[0].removed == 0
    with torch.no_grad():
        assert torch.equal(found.model(x), model(x))
