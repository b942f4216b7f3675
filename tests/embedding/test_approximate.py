"""Approximate lifts: errors of second order, gradients of first, negative curvature, and what is refused."""

import math

import pytest
import torch
from torch import nn

import liftscape as ls

EPSILONS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)


def fitted_slope(values: list[float]) -> float:
    x = torch.tensor([math.log(epsilon) for epsilon in EPSILONS[1:]], dtype=torch.float64)
    y = torch.tensor([math.log(value) for value in values[1:]], dtype=torch.float64)
    return float(((x - x.mean()) * y).sum() / ((x - x.mean()) ** 2).sum())


@pytest.fixture
def planted_risk(generator: torch.Generator) -> ls.EmpiricalRisk:
    model = ls.nets.mlp((3, 3, 2))
    inputs = torch.randn(120, 3, generator=generator, dtype=torch.float64)
    return ls.EmpiricalRisk(model, "mse", (inputs, ls.plant_critical_point(model, inputs, generator=generator)))


@pytest.mark.parametrize("at", ["0", "2"])
def test_tanh_errors_are_of_second_order_and_gradients_of_first(planted_risk: ls.EmpiricalRisk, at: str) -> None:
    inputs, _ = next(iter(planted_risk.batches))
    with torch.no_grad():
        outputs = planted_risk.model(inputs)
    errors, gradients = [], []
    for epsilon in EPSILONS:
        lifted = ls.approximate_lift(planted_risk.model, inputs, at, epsilon=epsilon).model
        with torch.no_grad():
            errors.append(float((lifted(inputs) - outputs).abs().max()))
        gradients.append(float(planted_risk.with_model(lifted).gradient().norm()))
    assert fitted_slope(errors) == pytest.approx(2, abs=0.05)
    assert fitted_slope(gradients) == pytest.approx(1, abs=0.05)


def test_a_minimum_gets_negative_curvature_that_does_not_vanish_with_epsilon(planted_risk: ls.EmpiricalRisk) -> None:
    inputs, _ = next(iter(planted_risk.batches))
    smallest = []
    for epsilon in (1e-2, 1e-3, 1e-4):
        lifted = planted_risk.with_model(ls.approximate_lift(planted_risk.model, inputs, "2", epsilon=epsilon).model)
        smallest.append(float(torch.linalg.eigvalsh(lifted.hessian().to_dense())[0]))
    assert max(smallest) < 0
    assert smallest[2] == pytest.approx(smallest[1], rel=0.05)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"activation": nn.ReLU()}, ls.LiftscapeError, "use lift, which is exact"),
        ({"epsilon": 0.0}, ls.LiftscapeError, "epsilon must be positive, but 0.0 was given"),
        ({"width": 1}, ls.LiftscapeError, "needs at least rank W = 2 neurons"),
    ],
)
def test_refusals_say_what_to_do(planted_risk: ls.EmpiricalRisk, options: dict, error: type, sentence: str) -> None:
    inputs, _ = next(iter(planted_risk.batches))
    with pytest.raises(error, match=sentence):
        ls.approximate_lift(planted_risk.model, inputs, "2", **options)


def test_its_inertia_is_not_predicted(planted_risk: ls.EmpiricalRisk) -> None:
    inputs, _ = next(iter(planted_risk.batches))
    embedding = ls.approximate_lift(planted_risk.model, inputs, "2")
    with pytest.raises(ls.LiftscapeError, match="not critical"):
        embedding.predict_inertia((0, 0, 17))
