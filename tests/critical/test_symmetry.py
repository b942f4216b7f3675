"""Tangents of symmetries: they lie in the Hessian's kernel at critical points, and there are as many as theory says."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.critical import symmetry_tangents

DTYPE = torch.float64


def drawn(model: nn.Module, generator: torch.Generator) -> nn.Module:
    with torch.no_grad():
        for parameter in model.double().parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=DTYPE))
    return model


def rank(tangents: Tensor) -> int:
    return int(torch.linalg.matrix_rank(tangents, rtol=1e-9)) if tangents.shape[1] else 0


def regression(model: nn.Module, generator: torch.Generator, planted: bool = True) -> ls.EmpiricalRisk:
    x = torch.randn(60, 3, generator=generator, dtype=DTYPE)
    if not planted:
        return ls.EmpiricalRisk(drawn(model, generator), "mse", (x, torch.ones_like(model(x).detach())))
    for _ in range(32):
        try:
            return ls.EmpiricalRisk(model, "mse", (x, ls.plant_critical_point(drawn(model, generator), x)))
        except ls.LiftscapeError:
            continue
    raise AssertionError("no draw is well conditioned")


def classification(model: nn.Module, generator: torch.Generator) -> ls.EmpiricalRisk:
    drawn(model, generator)
    x = torch.randn(30, 3, generator=generator, dtype=DTYPE)
    return ls.EmpiricalRisk(model, "cross_entropy", (x, torch.randint(0, 3, (30,), generator=generator)))


def mlp(activation: nn.Module, *, last: int = 2, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4, bias=bias), activation, nn.Linear(4, last, bias=bias))


class TwoReaders(nn.Module):
    """Neurons that two maps read: rescaling against one of them is no symmetry."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.right(h + torch.tanh(self.left(h)))


COUNTS = [
    (lambda: mlp(nn.Tanh()), 0),
    (lambda: mlp(nn.ELU()), 0),
    (lambda: mlp(nn.Hardtanh()), 0),
    (lambda: mlp(nn.ReLU()), 4),
    (lambda: mlp(nn.LeakyReLU(0.1), bias=False), 4),
    (lambda: mlp(nn.PReLU()), 4),
    (lambda: mlp(nn.Identity()), 16),
    (lambda: nn.Sequential(*mlp(nn.ReLU(), last=4), nn.ReLU(), nn.Linear(4, 1)), 8),
    (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, eps=0.1), nn.Tanh(), nn.Linear(4, 2)), 8),
    (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).eval(), 0),
    (lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, eps=0.1), nn.Tanh(), nn.Linear(4, 2)), 4),
    (TwoReaders, 0),
]


@pytest.mark.parametrize(("make", "count"), COUNTS)
def test_number_of_independent_symmetries(make, count, generator):
    found = symmetry_tangents(regression(make(), generator, planted=False))
    assert rank(found.tangents) == count, Counter(found.names)


def test_softmax_does_not_see_a_common_shift(generator):
    risk = classification(mlp(nn.Tanh(), last=3), generator)
    found = symmetry_tangents(risk)
    assert Counter(found.names) == {"common shift of 2": 5}
    theta = risk.flatten()
    for tangent in found.tangents.T:
        assert abs(risk.value(risk.unflatten(theta + 3 * tangent)) - risk.value()) < 1e-13


@pytest.mark.parametrize("make", [make for make, count in COUNTS if count])
def test_tangents_lie_in_the_kernel_of_the_hessian_at_a_planted_point(make, generator):
    risk = regression(make(), generator)
    found = symmetry_tangents(risk)
    H = risk.hessian()
    norm = float(torch.linalg.eigvalsh(H.to_dense()).abs().max())
    assert float((H @ found.tangents).norm(dim=0).max()) < 1e-12 * norm


@pytest.mark.parametrize("make", [make for make, count in COUNTS if count])
def test_tangents_are_orthogonal_to_the_gradient_anywhere(make, generator):
    risk = regression(make(), generator, planted=False)
    gradient = risk.gradient()
    assert float((gradient @ symmetry_tangents(risk).tangents).abs().max()) < 1e-13 * float(gradient.norm())


def test_unused_parameters_are_named(generator):
    model = mlp(nn.Tanh())
    model.register_parameter("spare", nn.Parameter(torch.zeros(2)))
    assert Counter(symmetry_tangents(regression(model, generator, planted=False)).names) == {"spare without effect": 2}


def test_a_frozen_map_has_no_rescaling(generator):
    model = mlp(nn.ReLU())
    model[2].weight.requires_grad_(False)
    assert symmetry_tangents(regression(model, generator, planted=False)).names == ()


def test_the_model_and_the_global_seed_are_left_as_they_were(generator):
    risk = regression(
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)), generator, planted=False
    )
    before, seed = {name: tensor.clone() for name, tensor in risk.model.state_dict().items()}, torch.get_rng_state()
    first, again = symmetry_tangents(risk), symmetry_tangents(risk)
    assert torch.equal(first.tangents, again.tangents)
    assert torch.equal(torch.get_rng_state(), seed)
    assert all(torch.equal(tensor, before[name]) for name, tensor in risk.model.state_dict().items())
