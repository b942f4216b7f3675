"""Points whose gradient and Hessian nearly vanish, or do, are read in words as any other."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.curvature import plateau_reading

F64 = torch.float64
READINGS: dict[str, Callable[[ls.EmpiricalRisk], str]] = {
    "inspect": lambda risk: ls.inspect(risk).verdict,
    "certify": lambda risk: ls.certify(risk).reason,
    "certify a large one": lambda risk: ls.certify(risk, max_parameters=1).reason,
    "certify a large one exactly": lambda risk: ls.certify(risk, max_parameters=1, tolerance=0.0).reason,
    "plateau": lambda risk: plateau_reading(risk).reading,
}


def saturated(weight: float, dtype: torch.dtype) -> ls.EmpiricalRisk:
    """Return a classifier that is sure of its right answers: 1 − p is about exp(−weight)."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False, dtype=dtype))
    model[0].weight.data = weight * torch.eye(3, dtype=dtype)
    return ls.EmpiricalRisk(model, "cross_entropy", (torch.eye(3, dtype=dtype), torch.arange(3)))


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("weight", [40.0, 100.0, 400.0, 500.0, 800.0])
@pytest.mark.parametrize("reading", READINGS)
def test_a_saturated_classifier_is_read_in_words(reading: str, weight: float, dtype: torch.dtype) -> None:
    risk = saturated(weight, dtype)
    assert READINGS[reading](risk).endswith(".")
    found = plateau_reading(risk)
    assert found.state == "flat"
    for step in (found.gradient_step, found.newton_step):
        assert 0 <= step.length <= found.radius * (1 + 1e-6)
        assert step.decrease >= 0


class Quadratic(nn.Module):
    """R(θ) = c (θᵀAθ/2 + gᵀθ) for every sample."""

    def __init__(self, A: Tensor, g: Tensor, scale: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(len(A), dtype=F64))
        self.A, self.g, self.scale = A, g, scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the same value for every sample."""
        value = self.theta @ self.A @ self.theta / 2 + self.g @ self.theta
        return (self.scale * value).expand(len(x), 1)


def quadratic(scale: float, slope: float) -> ls.EmpiricalRisk:
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(60, 60, generator=generator, dtype=F64)
    g = slope * torch.randn(60, generator=generator, dtype=F64)
    x = torch.zeros(3, 1, dtype=F64)
    return ls.EmpiricalRisk(Quadratic(A + A.T, g, scale), lambda output, _: output.mean(), (x, x))


@pytest.mark.parametrize("scale", [1e-200, 1e-60, 1e60, 1e150])
def test_a_large_saddle_is_one_whatever_the_loss_is_multiplied_by(scale: float) -> None:
    one, found = (ls.certify(quadratic(each, 0.0), max_parameters=10) for each in (1.0, scale))
    assert found.kind == one.kind == "strict saddle"
    lowest = float(torch.linalg.eigvalsh(quadratic(1.0, 0.0).hessian().to_dense())[0])
    assert found.evidence["smallest_eigenvalue"] / scale == pytest.approx(lowest, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-150, 1e-60, 1e60, 1e150])
def test_the_steps_are_the_same_whatever_the_loss_is_multiplied_by(scale: float) -> None:
    one, found = (plateau_reading(quadratic(each, 1.0)) for each in (1.0, scale))
    assert found.state == one.state
    for ours, expected in ((found.gradient_step, one.gradient_step), (found.newton_step, one.newton_step)):
        assert ours.length == pytest.approx(expected.length, rel=1e-6)
        assert ours.decrease / scale == pytest.approx(expected.decrease, rel=1e-6)


@pytest.mark.parametrize("reading", READINGS)
def test_a_risk_that_is_constant_is_read_in_words(reading: str) -> None:
    assert READINGS[reading](quadratic(0.0, 1.0)).endswith(".")
