"""Faults of other tools, each shown on the spot by the method that has it, beside the right answer."""

import copy

import pytest
import torch
from scipy.linalg import eigvalsh_tridiagonal
from tests.curvature.spectra import F64, rotated
from torch import Tensor, nn

import liftscape as ls
from liftscape.curvature import eigenpairs, slice_1d, spectral_density, trace


@pytest.fixture
def unit() -> tuple[ls.EmpiricalRisk, Tensor]:
    """A float32 network with its risk, and a direction of norm 1."""
    model = ls.nets.mlp((8, 24, 24, 3), "tanh", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=generator)
    risk = ls.EmpiricalRisk(model, "mse", (x, torch.sin(x[:, :3])))
    v = torch.randn(risk.size, generator=generator)
    return risk, v / v.norm()


@pytest.mark.parametrize("step", [1e-6, 1e-5, 1.0])
def test_differences_of_float32_gradients_are_no_products(unit: tuple[ls.EmpiricalRisk, Tensor], step: float) -> None:
    risk, v = unit
    double = ls.EmpiricalRisk(
        copy.deepcopy(risk.model).double(), "mse", tuple(tensor.double() for tensor in next(iter(risk.batches)))
    )
    right = double.hessian() @ v.double()
    theta = risk.flatten()
    ahead, behind = (risk.gradient(risk.unflatten(theta + sign * step * v)) for sign in (1, -1))
    differences = (ahead - behind) / (2 * step)
    assert float((differences - right).norm() / right.norm()) > 1e-2
    assert float((risk.hessian() @ v - right).norm() / right.norm()) < 1e-6


def test_lanczos_without_reorthogonalisation_sees_ghosts_of_the_largest() -> None:
    values = torch.cat([torch.linspace(0, 1, 300, dtype=F64), torch.tensor([50.0], dtype=F64)])
    H, steps = rotated(values), 80
    q, before = torch.nn.functional.normalize(torch.ones(301, dtype=F64), dim=0), torch.zeros(301, dtype=F64)
    alphas, betas = [], [0.0]
    for _ in range(steps):
        w = H @ q - betas[-1] * before
        alphas.append(float(w @ q))
        w = w - alphas[-1] * q
        betas.append(float(w.norm()))
        before, q = q, w / betas[-1]
    ghosts = eigvalsh_tridiagonal(alphas, betas[1:steps])
    assert (ghosts > 40).sum() > 1
    found = eigenpairs(H, 3, which="largest").values
    assert (found > 40).sum() == 1
    density = spectral_density(H, steps=steps)
    assert int((density.nodes > 40).sum()) == 1


def test_a_trace_that_stops_when_its_mean_settles_relative_to_itself_stops_at_once_below_zero() -> None:
    H = rotated(torch.cat([torch.full((44,), -3.0, dtype=F64), torch.full((44,), 1.0, dtype=F64)]))
    generator = torch.Generator().manual_seed(0)
    mean, samples = 0.0, []
    for _ in range(100):
        z = torch.randint(0, 2, (88,), generator=generator).to(F64) * 2 - 1
        samples.append(float(z @ H @ z))
        new = sum(samples) / len(samples)
        # Without an absolute value below, a negative mean passes any tolerance.
        if abs(new - mean) / (new + 1e-6) < 1e-3:
            break
        mean = new
    assert len(samples) < 3
    found = trace(H, probes=100)
    assert found.products == 100
    assert found.interval[0] <= -88 <= found.interval[1]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_its_mode_with_its_statistics_and_weights(training: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2)).double().train(training)
    model[0].weight.requires_grad_(False)
    model[3].bias.grad = torch.ones(2, dtype=F64)
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    risk = ls.EmpiricalRisk(model, "mse", (x, x[:, :2]))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    H = risk.hessian()
    trace(H, probes=3)
    eigenpairs(H, 1, which="both")
    spectral_density(H, steps=5)
    slice_1d(risk, torch.ones(risk.size, dtype=F64), points=3)
    ls.inspect(risk)
    ls.certify(risk)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, True, True, True, True, True]
    assert [name for name, parameter in model.named_parameters() if parameter.grad is not None] == ["3.bias"]
    assert torch.equal(model[3].bias.grad, torch.ones(2, dtype=F64))


class Unused(nn.Module):
    """An encoder layer beside parameters that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).mean(dim=1)


def test_unused_parameters_and_encoder_layers_as_they_come() -> None:
    torch.manual_seed(0)
    model = Unused().double()
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    risk = ls.EmpiricalRisk(model, "mse", (x, x[:, 0]))
    rows = {row.layer: row for row in ls.inspect(risk).layers}
    assert (rows["spare"].lowest, rows["spare"].highest, rows["spare"].trace.value) == (0.0, 0.0, 0.0)
    assert rows["layer.self_attn"].highest > 0
