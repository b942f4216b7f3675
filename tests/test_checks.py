"""The public diagnostics hold where the laws do, and fail where something is wrong."""

import dataclasses

import pytest
import torch
from torch import nn

import liftscape as ls

F64 = torch.float64


@pytest.fixture
def risk(generator: torch.Generator) -> ls.EmpiricalRisk:
    model = ls.nets.mlp((3, 3, 2))
    inputs = torch.randn(120, 3, generator=generator, dtype=F64)
    return ls.EmpiricalRisk(model, "mse", (inputs, ls.plant_critical_point(model, inputs, generator=generator)))


class WrongDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        return torch.tanh(t)

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class WrongNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2).to(F64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return WrongDerivative.apply(self.first(x))


def test_all_hold_at_a_planted_point_and_its_lift(risk: ls.EmpiricalRisk, capsys: pytest.CaptureFixture) -> None:
    inputs, _ = next(iter(risk.batches))
    embedding = ls.lift(risk.model, inputs, "2", activation="elu")
    folded = ls.fold(embedding.model, inputs)
    assert ls.checks.check_gradient(risk)
    assert ls.checks.check_hessian(risk)
    assert ls.checks.check_embedding(embedding, risk)
    assert ls.checks.check_fold(folded, inputs, embedding.model)
    assert "H' = JᵀHJ" in capsys.readouterr().out


def test_a_wrong_derivative_is_seen(generator: torch.Generator) -> None:
    data = (torch.randn(9, 3, generator=generator, dtype=F64), torch.randn(9, 2, generator=generator, dtype=F64))
    assert not ls.checks.check_gradient(ls.EmpiricalRisk(WrongNetwork(), "mse", data))


def test_a_moved_embedding_and_a_wrong_fold_are_seen(risk: ls.EmpiricalRisk) -> None:
    inputs, _ = next(iter(risk.batches))
    embedding = ls.lift(risk.model, inputs, "2", activation="elu")
    with torch.no_grad():
        embedding.model.get_submodule("2.B").weight[0, 0] += 1e-6
    assert not ls.checks.check_embedding(embedding, risk)
    folded = ls.fold(ls.lift(risk.model, inputs, "2", activation="elu").model, inputs)
    wrong = dataclasses.replace(folded, model=ls.nets.mlp((3, 3, 2), generator=torch.Generator().manual_seed(9)))
    assert not ls.checks.check_fold(wrong, inputs, risk.model)


def test_a_fold_in_float32_is_held_to_what_its_rounding_explains() -> None:
    torch.manual_seed(0)
    x = torch.rand(20, 6)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    net[0].bias.data += 9
    folded = ls.fold(net, x)
    assert ls.checks.check_fold(folded, x, net, held_out=x / 2, search=True)
    next(folded.model.parameters()).data += 1e-3
    assert not ls.checks.check_fold(folded, x, net)
    exact = ls.fold(net.double(), x.double())
    next(exact.model.parameters()).data += 1e-8
    assert not ls.checks.check_fold(exact, x.double(), net)
