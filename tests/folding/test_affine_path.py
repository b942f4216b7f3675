"""Affine neurons of a mixed layer leave into a map beside it where that is cheaper, and outputs stay."""

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import liftscape as ls
from liftscape.folding import operations, trim
from liftscape.sites import Parallel

F64 = torch.float64


class Branch(nn.Module):
    """Linear, activation, Linear in a forward of its own, with a residual around them."""

    def __init__(self, first: nn.Module, activation: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.activation, self.last = first, activation, last

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1] + self.last(self.activation(self.first(x)))


def network(kind: str, activation: str, affine: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A layer of 10 neurons, of which some are far inside a piece, two dead, and the others mixed."""
    made = {"relu": nn.ReLU(), "leaky": nn.LeakyReLU(0.2), "prelu": nn.PReLU(10, 0.1), "elu": nn.ELU()}[activation]
    if kind == "vectors":
        layers, shape = [nn.Linear(3, 10), made, nn.Linear(10, 2), nn.Tanh()], (3,)
    elif kind == "normed":
        layers, shape = [nn.Linear(3, 10, bias=False), nn.BatchNorm1d(10), made, nn.Linear(10, 2, bias=False)], (3,)
    elif kind == "branch":
        layers, shape = [Branch(nn.Linear(3, 10), made, nn.Linear(10, 1))], (3,)
    else:
        kernel = {"pointwise": 1, "kernel": 2, "padded": 3}[kind]
        last = nn.Conv2d(10, 2, kernel, padding=int(kind == "padded"))
        layers, shape = [nn.Conv2d(2, 10, 3, 2, 1), made, last], (2, 9, 9)
    model = nn.Sequential(*layers).to(F64).eval()
    shift = model[0].first.bias if kind == "branch" else model[int(kind == "normed")].bias
    with torch.no_grad():
        shift[:affine] += 200.0
        shift[-2:] -= 200.0
    return model, shape


@given(
    kind=st.sampled_from(["vectors", "normed", "branch", "pointwise", "kernel", "padded"]),
    activation=st.sampled_from(["relu", "leaky", "prelu", "elu"]),
    affine=st.integers(0, 8),
    seed=st.integers(0, 10**6),
)
def test_outputs_stay_and_operations_fall(kind: str, activation: str, affine: int, seed: int) -> None:
    torch.manual_seed(seed)
    model, shape = network(kind, activation, affine)
    x = torch.randn(40, *shape, dtype=F64)
    before = copy.deepcopy(model.state_dict())
    plain, found = trim(model, x), trim(model, x, affine_path=True)
    row = found.rows[0]
    with torch.no_grad():
        scale = float(model(x).abs().max())
        assert float((found.model(x) - model(x)).abs().max()) <= 1e-10 * scale
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert found.operations_after == operations(found.model, x)
    left = row.neurons - row.removed
    if kind in {"vectors", "normed", "branch", "pointwise"}:
        m_in, m_out = (18, 2) if kind == "pointwise" else (3, 1 if kind == "branch" else 2)
        pays = row.affine > m_in * m_out / (m_in + m_out) and row.affine < left
        assert row.beside == (row.affine if pays else 0)
        saved = row.beside * (m_in + m_out) - (m_in * m_out if pays else 0)
        places = 25 if kind == "pointwise" else 1
        assert plain.operations_after - found.operations_after == saved * places
    if row.beside:
        assert any(type(module) is Parallel for module in found.model.modules())
        assert found.operations_after < plain.operations_after
        assert "left into a map beside the layer" in row.reason
    else:
        assert found.operations_after == plain.operations_after
    if kind == "padded" and 0 < row.affine < left:
        assert "borders" in row.reason
    if row.affine == left:
        assert "fold removes the whole layer" in row.reason
    if kind == "kernel" and 6 < row.affine < left:
        # 2 × 2 after 3 × 3 with stride 2 is 5 × 5.
        assert bool(row.beside) == (row.affine * (18 * 25 + 8 * 16) > 2 * 2 * 25 * 16)


def test_of_two_layers_with_one_map_that_which_saves_more_gets_the_path() -> None:
    torch.manual_seed(0)
    model = ls.nets.mlp((4, 20, 20, 20, 1), "relu")
    x = torch.randn(50, 4, dtype=F64)
    with torch.no_grad():
        for place, affine, shift in ((0, 15, 8.0), (2, 12, 60.0), (4, 18, 400.0)):
            model[place].bias[:affine] += shift
            # The others are positive on some samples and negative on others.
            model[place].bias[affine:] -= model[: place + 1](x).mean(dim=0)[affine:]
    found = trim(model, x, affine_path=True)
    assert [row.beside > 0 for row in found.rows] == [True, False, True]
    assert "own path saves more" in found.rows[1].reason
    assert isinstance(found.model.get_submodule("2"), Parallel)
    assert isinstance(found.model.get_submodule("6"), Parallel)
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), model(x), rtol=1e-10, atol=1e-10)
    assert [row.affine for row in found.rows] == [15, 12, 18]
    # 15·(4 + 20) − 4·20 and 18·(20 + 1) − 20.
    assert found.operations_before - found.operations_after == 280 + 358


def test_the_result_is_a_normal_module_that_is_saved_trained_and_folded_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, _ = network("vectors", "prelu", 6)
    x = torch.randn(40, 3, dtype=F64)
    found = trim(ls.EmpiricalRisk(model, "mse", (x, x[:, :2])), affine_path=True)
    assert found.rows[0].beside >= 6
    with torch.no_grad():
        expected = found.model(x)
        exported = torch.export.export(found.model, (x,)).module()
        torch.testing.assert_close(exported(x), expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(copy.deepcopy(found.model)(x), expected)
    ls.save(found.model, tmp_path / "trimmed", base=model)
    again = ls.load(model, tmp_path / "trimmed")
    with torch.no_grad():
        assert torch.equal(again(x), expected)
    again(x).sum().backward()
    assert all(parameter.grad is not None for parameter in again.parameters())
    assert trim(found.model, x, affine_path=True).operations_after == found.operations_after
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("groups", [(2, 1), (1, 2)])
def test_beside_groups_the_reason_is_given(groups: tuple[int, int]) -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(2, 4, 3, groups=groups[0]), nn.Conv2d(4, 2, 1, groups=groups[1])
    model = nn.Sequential(first, nn.LeakyReLU(), last).to(F64)
    with torch.no_grad():
        first.bias[:3] += 90.0
    found = trim(model, torch.randn(9, 2, 7, 7, dtype=F64), affine_path=True)
    assert found.rows[0].beside == 0
    assert "in groups" in found.rows[0].reason
