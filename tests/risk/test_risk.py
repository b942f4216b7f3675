"""The empirical risk: weights of batches, which parameters count, and nothing of the user's changed."""

import copy

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls

F64 = torch.float64


def data(n: int = 10, outputs: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(n, 3, generator=generator, dtype=F64),
        torch.randn(n, outputs, generator=generator, dtype=F64),
    )


class WithUnused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(3, 2), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.used(x))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_an_eight_and_two_split_is_the_unsplit_risk(loss: str) -> None:
    model = ls.nets.mlp((3, 4, 2))
    x, y = data()
    y = y if loss == "mse" else torch.arange(10) % 2
    whole = ls.EmpiricalRisk(model, loss, (x, y))
    split = ls.EmpiricalRisk(model, loss, [(x[:8], y[:8]), (x[8:], y[8:])])
    torch.testing.assert_close(split.value(), whole.value(), rtol=1e-14, atol=0)
    torch.testing.assert_close(split.gradient(), whole.gradient(), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(split.hessian().to_dense(), whole.hessian().to_dense(), rtol=1e-12, atol=1e-14)


def test_value_and_gradient_are_torch_own() -> None:
    model, (x, y) = ls.nets.mlp((3, 4, 2)), data()
    risk = ls.EmpiricalRisk(model, "mse", (x, y))
    expected = nn.functional.mse_loss(model(x), y)
    torch.testing.assert_close(risk.value(), expected.detach(), rtol=1e-15, atol=0)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    torch.testing.assert_close(risk.gradient(), torch.cat([g.reshape(-1) for g in gradients]), rtol=1e-13, atol=1e-16)


def test_frozen_parameters_are_left_out_and_unused_ones_have_zero_rows() -> None:
    model = WithUnused().to(F64)
    model.used.bias.requires_grad_(False)
    risk = ls.EmpiricalRisk(model, "mse", data())
    assert list(risk.parameters) == ["used.weight", "unused.weight", "unused.bias"]
    H = risk.hessian().to_dense()
    assert H.shape == (30, 30)
    assert float(H[:6, :6].norm()) > 0
    assert float(H[6:].norm()) == float(H[:, 6:].norm()) == 0
    assert float(risk.gradient()[6:].norm()) == 0
    assert torch.equal(risk.hessian() @ torch.eye(30, dtype=F64), H)


def test_tied_parameters_count_once() -> None:
    model = Tied().to(F64)
    risk = ls.EmpiricalRisk(model, "mse", data())
    assert risk.size == sum(p.numel() for p in model.parameters()) == 9 + 3 + 3 + 8
    step = torch.randn(risk.size, generator=torch.Generator().manual_seed(0), dtype=F64)
    theta, small = risk.flatten(), 1e-6
    moved = lambda t: float(risk.value(risk.unflatten(theta + t * step)))
    assert (moved(small) - moved(-small)) / (2 * small) == pytest.approx(float(risk.gradient() @ step), rel=1e-7)


def test_float32_stays_float32() -> None:
    x, y = data()
    risk = ls.EmpiricalRisk(ls.nets.mlp((3, 4, 2)).float(), "mse", (x.float(), y.float()))
    assert risk.gradient().dtype == risk.hessian().to_dense().dtype == torch.float32


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_bit_identical_afterwards(fails: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 2)).to(F64).train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[3].bias.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    states = [(module.training, len(module._forward_hooks)) for module in model.modules()]
    seeds = torch.random.get_rng_state()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        if fails and output.requires_grad:
            raise RuntimeError("the user's own")
        return ((output - target) ** 2).mean()

    try:
        risk = ls.EmpiricalRisk(model, loss, data())
        risk.value(), risk.gradient(), risk.hessian().to_dense()
    except (RuntimeError, ls.LiftscapeError):
        assert fails
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert states == [(module.training, len(module._forward_hooks)) for module in model.modules()]
    assert torch.equal(model[0].weight.grad, torch.ones(4, 3, dtype=F64))
    assert model[0].bias.grad is None
    assert [p.requires_grad for p in model.parameters()] == [True, True, True, True, True, False]
    assert torch.equal(seeds, torch.random.get_rng_state())
