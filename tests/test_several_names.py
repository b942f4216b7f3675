"""A module that has several names is the caller's own module before and after every call, and counts once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.folding import output_gap

F64 = torch.float64


class Part(nn.Module):
    """An encoder that stands in a Sequential too, called once."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.features = nn.Sequential(self.encoder, nn.Tanh(), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Everything(nn.Module):
    """All of it registered twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2)
        self.whole = nn.Sequential(self.body, self.head)

    def forward(self, x: Tensor) -> Tensor:
        return self.whole(x)


def repeated() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(4, 2))


def one_slope() -> nn.Module:
    slope = nn.PReLU()
    return nn.Sequential(nn.Linear(4, 4), slope, nn.Linear(4, 4), slope, nn.Linear(4, 2))


def tied() -> nn.Module:
    """Two maps, one tensor."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    net[2].weight = net[0].weight
    return net


MODELS: dict[str, Callable[[], nn.Module]] = {
    "part": Part,
    "everything": Everything,
    "repeated": repeated,
    "one slope": one_slope,
    "tied": tied,
}
CALLS: dict[str, Callable[[nn.Module, Tensor, Tensor], Any]] = {
    "EmpiricalRisk": lambda model, x, y: ls.EmpiricalRisk(model, "mse", (x, y)).hessian().to_dense(),
    "find_sites": lambda model, x, y: ls.find_sites(model, x),
    "lift": lambda model, x, y: ls.lift(model, x, ls.find_sites(model, x)[-1].name, activation="relu"),
    "fold": lambda model, x, y: ls.fold(model, x),
    "trim": lambda model, x, y: ls.trim(model, x),
    "collapse_residuals": lambda model, x, y: ls.collapse_residuals(model, x),
    "layer_linearity": lambda model, x, y: ls.layer_linearity(model, x),
    "inspect": lambda model, x, y: ls.inspect(ls.EmpiricalRisk(model, "mse", (x, y))),
    "output_gap": lambda model, x, y: output_gap(model, model, x),
}


def case(name: str, generator: torch.Generator) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    x, y = (torch.randn(12, width, generator=generator, dtype=F64) for width in (4, 2))
    return MODELS[name]().to(F64).eval(), x, y


def places(model: nn.Module) -> list[tuple[str, int, bool]]:
    """All parameters and buffers by every name, as the objects that they are."""
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    return [(name, id(tensor), tensor.requires_grad) for name, tensor in named]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", MODELS)
def test_the_callers_parameters_stay_in_their_places(name: str, call: str, generator: torch.Generator) -> None:
    model, x, y = case(name, generator)
    before, output = places(model), model(x).detach()
    CALLS[call](model, x, y)
    assert places(model) == before
    assert torch.equal(model(x), output)


@pytest.mark.parametrize("name", MODELS)
def test_risk_gradient_and_hessian_are_those_of_autograd(name: str, generator: torch.Generator) -> None:
    model, x, y = case(name, generator)
    own = list(model.parameters())
    value = nn.functional.mse_loss(model(x), y)
    gradient = torch.autograd.grad(value, own, create_graph=True)
    flat = torch.cat([part.reshape(-1) for part in gradient])
    rows = [torch.autograd.grad(entry, own, retain_graph=True, allow_unused=True) for entry in flat]
    H = torch.stack([
        torch.cat([
            torch.zeros_like(one).reshape(-1) if part is None else part.reshape(-1)
            for part, one in zip(row, own, strict=True)
        ])
        for row in rows
    ])
    risk = ls.EmpiricalRisk(model, "mse", (x, y))
    assert risk.size == sum(tensor.numel() for tensor in own)
    assert torch.allclose(risk.value(), value.detach(), rtol=1e-13)
    assert torch.allclose(risk.gradient(), flat.detach(), atol=1e-14)
    assert torch.allclose(risk.hessian().to_dense(), H, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_what_was_lifted_folds_back(name: str, generator: torch.Generator) -> None:
    model, x, _ = case(name, generator)
    for site in ls.find_sites(model, x):
        if site.refusal is None:
            deeper = ls.lift(model, x, site.name, activation="elu").model
            assert output_gap(deeper, model, x)[0] < 1e-12
            assert output_gap(ls.fold(deeper, x).model, model, x)[0] < 1e-12


def test_networks_with_such_modules_train_together() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    found = ls.train_ensemble(repeated, "mse", (x, x[:, :2]), starts=2, steps=5, learning_rate=0.05, record=[0, 5])
    assert bool(torch.isfinite(found.losses).all())
