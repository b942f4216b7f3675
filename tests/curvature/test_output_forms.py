"""Gauss-Newton and Fisher matrices against Jacobians row by row and per-sample gradients by a loop."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.utils.data import DataLoader, TensorDataset

import liftscape as ls

F64 = torch.float64


def problem(loss: str, batches: bool, generator: torch.Generator) -> ls.EmpiricalRisk:
    model = ls.nets.mlp((3, 4, 3), "tanh", generator)
    x = torch.randn(9, 3, generator=generator, dtype=F64)
    y = torch.randn(9, 3, generator=generator, dtype=F64) if loss == "mse" else torch.arange(9) % 3
    return ls.EmpiricalRisk(model, loss, [(x[:7], y[:7]), (x[7:], y[7:])] if batches else (x, y))


def samples(risk: ls.EmpiricalRisk) -> list[tuple[Tensor, Tensor]]:
    return [(x[i : i + 1], y[i : i + 1]) for x, y in risk.batches for i in range(len(x))]


def dense_jacobian(risk: ls.EmpiricalRisk, x: Tensor) -> Tensor:
    """∂z/∂θ on one sample, (D, M), by jacrev on the network alone."""
    blocks = jacrev(lambda params: functional_call(risk.model, params, (x,))[0])(risk.parameters)
    return torch.cat([block.reshape(block.shape[0], -1) for block in blocks.values()], dim=1)


def loss_hessian(risk: ls.EmpiricalRisk, z: Tensor, y: Tensor) -> Tensor:
    """∇²ℓ in closed form: 2/D for the squared error, diag p − ppᵀ for the cross-entropy."""
    if y.is_floating_point():
        return torch.eye(z.shape[1], dtype=F64) * (2 / z.shape[1])
    p = z[0].softmax(dim=0)
    return torch.diag(p) - torch.outer(p, p)


def dense_gauss_newton(risk: ls.EmpiricalRisk) -> Tensor:
    total = torch.zeros(risk.size, risk.size, dtype=F64)
    for x, y in samples(risk):
        J = dense_jacobian(risk, x)
        total += J.T @ loss_hessian(risk, risk.model(x).detach(), y) @ J / risk.batches.samples
    return total


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_gauss_newton_is_the_sum_over_samples(loss: str, batches: bool, generator: torch.Generator) -> None:
    risk = problem(loss, batches, generator)
    G, expected = ls.curvature.gauss_newton(risk), dense_gauss_newton(risk)
    torch.testing.assert_close(G.to_dense(), expected, rtol=1e-11, atol=1e-13)
    v = torch.randn(risk.size, 2, generator=generator, dtype=F64)
    torch.testing.assert_close(G @ v, expected @ v, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(G @ v[:, 0], expected @ v[:, 0], rtol=1e-11, atol=1e-12)
    chosen = ls.curvature.gauss_newton(risk, at="2").to_dense()
    torch.testing.assert_close(chosen, expected[-15:, -15:], rtol=1e-11, atol=1e-13)


def test_gauss_newton_is_the_hessian_of_the_last_layer(generator: torch.Generator) -> None:
    risk = problem("cross_entropy", True, generator)
    last = ls.curvature.gauss_newton(risk, at="2").to_dense()
    torch.testing.assert_close(last, risk.hessian(at="2").to_dense(), rtol=1e-10, atol=1e-13)
    assert float((ls.curvature.gauss_newton(risk).to_dense() - risk.hessian().to_dense()).norm()) > 1e-2


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_empirical_fisher_is_made_of_gradients_of_samples(loss: str, batches: bool, generator: torch.Generator) -> None:
    risk = problem(loss, batches, generator)
    gradients = torch.stack([ls.EmpiricalRisk(risk.model, loss, pair).gradient() for pair in samples(risk)])
    expected = gradients.T @ gradients / len(gradients)
    F = ls.curvature.fisher(risk)
    torch.testing.assert_close(F.to_dense(), expected, rtol=1e-11, atol=1e-13)
    chosen = ls.curvature.fisher(risk, at=["0.bias", "2.weight"]).to_dense()
    kept = torch.cat([torch.arange(12, 16), torch.arange(16, 28)])
    torch.testing.assert_close(chosen, expected[kept][:, kept], rtol=1e-11, atol=1e-13)
    smaller = ls.curvature.fisher(risk, memory_budget=2500)
    torch.testing.assert_close(smaller.to_dense(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_monte_carlo_fisher_tends_to_gauss_newton(loss: str, generator: torch.Generator) -> None:
    risk = problem(loss, True, generator)
    expected = dense_gauss_newton(risk)
    gaps: list[float] = []
    for count in (20, 2000):
        F = ls.curvature.fisher(risk, method="monte-carlo", samples=count, generator=generator)
        dense = F.to_dense()
        assert float(torch.linalg.eigvalsh(dense)[0]) > -1e-12
        gaps.append(float((dense - expected).norm() / expected.norm()))
    # A mean of N draws is off by its spread over √N: ten times less for a hundred times more draws.
    assert gaps[1] < 0.05
    assert 3 < gaps[0] / gaps[1] < 30


def test_monte_carlo_targets_are_drawn_once_for_an_operator(generator: torch.Generator) -> None:
    risk = problem("cross_entropy", True, generator)
    v = torch.randn(risk.size, generator=generator, dtype=F64)
    state = torch.get_rng_state()
    F = ls.curvature.fisher(risk, method="monte-carlo")
    assert torch.equal(F @ v, F @ v)
    assert torch.equal(F @ v, ls.curvature.fisher(risk, method="monte-carlo") @ v)
    other = ls.curvature.fisher(risk, method="monte-carlo", generator=torch.Generator().manual_seed(5))
    assert float((F @ v - other @ v).norm()) > 1e-3
    assert torch.equal(torch.get_rng_state(), state)


def drawn(model: nn.Module, generator: torch.Generator) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6)
    return model.to(F64)


class Positions(nn.Module):
    """Logits (n, 3, 4): four positions a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(2, 12)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.map(x)).view(-1, 3, 4)


def test_monte_carlo_fisher_of_positions_tends_to_gauss_newton(generator: torch.Generator) -> None:
    x, y = torch.randn(5, 2, generator=generator, dtype=F64), torch.randint(0, 3, (5, 4), generator=generator)
    risk = ls.EmpiricalRisk(drawn(Positions(), generator), "cross_entropy", (x, y))
    expected = ls.curvature.gauss_newton(risk).to_dense()
    F = ls.curvature.fisher(risk, method="monte-carlo", samples=3000, generator=generator).to_dense()
    assert float((F - expected).norm() / expected.norm()) < 0.05


class Norms(nn.Module):
    """Through LayerNorm and attention, with an unused parameter, and an answer in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, batch_first=True)
        self.out, self.unused = nn.Linear(4, 2), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Any:
        h = self.encoder(x)
        return {"logits": self.out(h.mean(dim=1)), "hidden": h}


@pytest.mark.parametrize("mode", [True, False])
def test_gauss_newton_through_an_encoder_layer(mode: bool, generator: torch.Generator) -> None:
    model = drawn(Norms(), generator).train(mode)
    before = copy.deepcopy(model.state_dict())
    x, y = torch.randn(6, 3, 4, generator=generator, dtype=F64), torch.randn(6, 2, generator=generator, dtype=F64)
    risk = ls.EmpiricalRisk(model, "mse", (x, y))
    rows: list[Tensor] = []
    for output in model(x)["logits"].flatten():
        parts = torch.autograd.grad(
            output, list(model.parameters()), retain_graph=True, materialize_grads=True, allow_unused=True
        )
        rows.append(torch.cat([part.reshape(-1) for part in parts]))
    J = torch.stack(rows)
    torch.testing.assert_close(
        ls.curvature.gauss_newton(risk).to_dense(), J.T @ J * (2 / len(J)), rtol=1e-10, atol=1e-12
    )
    loss = lambda output, target: ((output["logits"] - target) ** 2).mean()
    same = ls.EmpiricalRisk(model, loss, (x, y))
    torch.testing.assert_close(
        ls.curvature.gauss_newton(same).to_dense(), J.T @ J * (2 / len(J)), rtol=1e-10, atol=1e-12
    )
    F = ls.curvature.fisher(same).to_dense()
    torch.testing.assert_close(F, ls.curvature.fisher(risk).to_dense(), rtol=1e-10, atol=1e-12)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_misuse_is_named(generator: torch.Generator) -> None:
    risk = problem("mse", False, generator)
    own = ls.EmpiricalRisk(risk.model, lambda z, y: ((z - y) ** 2).mean(), risk.batches)
    with pytest.raises(ls.LiftscapeError, match="Monte-Carlo Fisher needs the loss 'mse' or 'cross_entropy'"):
        ls.curvature.fisher(own, method="monte-carlo")
    with pytest.raises(ls.LiftscapeError, match="samples must be at least 1, but 0"):
        ls.curvature.fisher(risk, method="monte-carlo", samples=0)
    with pytest.raises(ls.LiftscapeError, match=r"no module or parameter '2.weigt'; did you mean '2.weight'"):
        ls.curvature.gauss_newton(risk, at="2.weigt")
    summed = ls.EmpiricalRisk(
        nn.Sequential(nn.Linear(3, 2), nn.Flatten(0)).to(F64),
        lambda z, y: ((z.view_as(y) - y) ** 2).mean(),
        (torch.ones(4, 3, dtype=F64), torch.ones(4, 2, dtype=F64)),
    )
    with pytest.raises(ls.LiftscapeError, match=r"empirical Fisher needs outputs .* batch of 4 gave.*\(8,\)"):
        ls.curvature.fisher(summed).to_dense()


@pytest.mark.parametrize("batch", [4, 12])
def test_targets_drawn_once_meet_the_same_samples_or_none(batch: int) -> None:
    torch.manual_seed(0)
    model = ls.nets.mlp((3, 4, 2))
    data = TensorDataset(torch.randn(12, 3, dtype=torch.float64), torch.randint(2, (12,)))
    shuffled = ls.EmpiricalRisk(model, "cross_entropy", DataLoader(data, batch, shuffle=True))
    F, v = (
        ls.curvature.fisher(shuffled, method="monte-carlo", memory_budget=100_000),
        torch.ones(26, dtype=torch.float64),
    )
    with pytest.raises(ls.LiftscapeError, match=r"batches come in another order.*shuffle=False\.$"):
        _ = [F @ v for _ in range(9)]
    ordered = ls.EmpiricalRisk(model, "cross_entropy", DataLoader(data, batch))
    F = ls.curvature.fisher(ordered, method="monte-carlo")
    assert torch.equal(F @ v, F @ v)
    # Targets of the data go with their samples whatever the order.
    E = ls.curvature.fisher(shuffled)
    torch.testing.assert_close(E @ v, E @ v, rtol=1e-12, atol=1e-15)
