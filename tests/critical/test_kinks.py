"""The kink margin against distances computed by hand."""

from collections.abc import Callable
from math import inf

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import liftscape as ls
from liftscape.critical import kink_margin

DTYPE = torch.float64


class Functional(nn.Module):
    """A pointwise function between two maps, spelt in any way."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 3, dtype=DTYPE), nn.Linear(3, 1, dtype=DTYPE)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def risk_of(function: Callable[[Tensor], Tensor], generator: torch.Generator, loss: object = "mse") -> ls.EmpiricalRisk:
    model = Functional(function)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=DTYPE))
    x = torch.randn(20, 2, generator=generator, dtype=DTYPE)
    y = torch.randn(20, 1, generator=generator, dtype=DTYPE)
    return ls.EmpiricalRisk(model, loss, [(x[:12], y[:12]), (x[12:], y[12:])])


def nearest(risk: ls.EmpiricalRisk, points: tuple[float, ...]) -> float:
    z = torch.cat([risk.model.first(x) for x, _ in risk.batches])
    return min(float((z - point).abs().min().detach()) for point in points)


SLOPES = [
    (torch.relu, (0.0,)),
    (Tensor.relu, (0.0,)),
    (functional.relu, (0.0,)),
    (lambda t: functional.relu(t, inplace=True), (0.0,)),
    (nn.ReLU(inplace=True), (0.0,)),
    (nn.LeakyReLU(0.2), (0.0,)),
    (nn.ReLU6(), (0.0, 6.0)),
    (nn.Hardtanh(-0.5, 0.7), (-0.5, 0.7)),
    (nn.SELU(), (0.0,)),
    (nn.ELU(0.5), (0.0,)),
    (nn.Hardswish(), (-3.0, 3.0)),
    (nn.Hardsigmoid(), (-3.0, 3.0)),
    (nn.Softshrink(0.3), (-0.3, 0.3)),
    (nn.Hardshrink(0.3), (-0.3, 0.3)),
    (nn.Threshold(0.2, -1.0), (0.2,)),
    (nn.Softplus(threshold=1.0), (1.0,)),
    (lambda t: t.clamp(min=-0.4), (-0.4,)),
    (torch.abs, (0.0,)),
]
CURVATURES = [(nn.ELU(), (0.0,)), (nn.CELU(2.0), (0.0,)), (functional.softsign, (0.0,))]
SMOOTH = [torch.tanh, nn.GELU(), nn.SiLU(), nn.Softplus(), nn.Identity(), torch.sin]


@pytest.mark.parametrize(("function", "points"), SLOPES)
def test_margin_is_the_distance_to_the_nearest_slope_kink(function, points, generator):
    risk = risk_of(function, generator)
    found = kink_margin(risk)
    assert found.margin == pytest.approx(nearest(risk, points), rel=1e-12)
    assert found.on_kink == 0
    assert found.layer == ("function" if isinstance(function, nn.Module) else "Functional")


@pytest.mark.parametrize(("function", "points"), CURVATURES)
def test_where_only_the_curvature_jumps_the_slope_margin_is_infinite(function, points, generator):
    risk = risk_of(function, generator)
    found = kink_margin(risk)
    assert found.margin == inf
    assert found.curvature_margin == pytest.approx(nearest(risk, points), rel=1e-12)


@pytest.mark.parametrize("function", SMOOTH)
def test_smooth_functions_have_no_kink(function, generator):
    found = kink_margin(risk_of(function, generator))
    assert (found.margin, found.curvature_margin, found.layer) == (inf, inf, None)


def test_channels_of_prelu_with_slope_one_are_smooth(generator):
    activation = nn.PReLU(3, dtype=DTYPE)
    risk = risk_of(activation, generator)
    activation.weight.data = torch.tensor([1.0, 0.3, 1.0], dtype=DTYPE)
    z = torch.cat([risk.model.first(x) for x, _ in risk.batches])
    assert kink_margin(risk).margin == pytest.approx(float(z[:, 1].abs().min().detach()), rel=1e-12)


@pytest.mark.parametrize("loss", [functional.l1_loss, lambda output, target: (output - target).abs().mean()])
def test_kinks_of_the_loss_count(loss, generator):
    risk = risk_of(torch.tanh, generator, loss)
    residual = torch.cat([risk.model(x) - y for x, y in risk.batches])
    found = kink_margin(risk)
    assert found.margin == pytest.approx(float(residual.abs().min().detach()), rel=1e-12)
    assert found.layer == "the loss"


def test_a_sample_on_the_kink_is_counted_and_one_that_cannot_move_is_not(generator):
    risk = risk_of(nn.ReLU(), generator)
    x, _ = next(iter(risk.batches))
    with torch.no_grad():
        risk.model.first.bias[1] = -(risk.model.first.weight[1] @ x[4])
    found = kink_margin(risk)
    assert (found.on_kink, found.margin < 1e-15) == (1, True)

    stuck = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1)).to(DTYPE)
    origin = torch.cat([torch.zeros(1, 2, dtype=DTYPE), x])
    found = kink_margin(ls.EmpiricalRisk(stuck, "mse", (origin, torch.ones(13, 1, dtype=DTYPE))))
    assert found.on_kink == 0
    assert found.margin > 1e-6


def test_crossings_on_the_way_to_other_parameters_are_seen(generator):
    risk = risk_of(nn.ReLU(), generator)
    margin = kink_margin(risk).margin
    moved = {name: tensor.clone() for name, tensor in risk.parameters.items()}
    moved["first.bias"] += margin / 100
    assert not kink_margin(risk, moved).crossing
    moved["first.bias"] += margin
    assert kink_margin(risk, moved).crossing


def test_the_model_is_left_as_it_was(generator):
    risk = risk_of(nn.ReLU(), generator)
    before = {name: tensor.clone() for name, tensor in risk.model.state_dict().items()}
    kink_margin(risk)
    assert all(torch.equal(tensor, before[name]) for name, tensor in risk.model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in risk.model.modules())
