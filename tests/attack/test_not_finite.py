"""Where R, its gradient or its Hessian is not finite, one sentence says so and names the place; nothing is counted."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.curvature import (
    diagonal,
    eigenpairs,
    inertia,
    inertia_of_spectrum,
    most_negative_eigenpair,
    partial_inertia,
    plateau_reading,
    spectral_density,
    trace,
    trace_by_layer,
)
from liftscape.outcomes import NotFiniteError

from .functions import risk_of

F64 = torch.float64


def functions() -> dict[str, ls.EmpiricalRisk]:
    """Return risks with a finite gradient and a Hessian that is not: alike in kind, not in form or size."""
    made: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
        "norm at 0": (lambda p: p.norm(), torch.zeros(3, dtype=F64)),
        "norm and a square": (lambda p: p.norm() + (p - 1).square().sum(), torch.zeros(3, dtype=F64)),
        "mish at 800": (lambda p: nn.functional.mish(p).sum(), torch.full((3,), 800.0, dtype=F64)),
        "large": (lambda p: nn.functional.mish(p).sum() + p.square().sum(), torch.full((300,), 800.0, dtype=F64)),
        "power 3/2 at 0": (lambda p: p.abs().pow(1.5).sum() + 1, torch.zeros(4, dtype=F64)),
        "one of many": (lambda p: p[:1].abs().pow(1.5).sum() + p.square().sum(), torch.zeros(200, dtype=F64)),
        "overflow": (lambda p: (1e60 * p).square().sum() * 1e190, torch.full((2,), 1e-170, dtype=F64)),
    }
    return {name: risk_of(function, start) for name, (function, start) in made.items()}


KINKED = {"norm at 0", "norm and a square", "power 3/2 at 0", "one of many"}
RISKS = {name: risk for name, risk in functions().items() if bool(torch.isfinite(risk.gradient()).all())}

READINGS: dict[str, Callable[[ls.EmpiricalRisk], Any]] = {
    "product": lambda risk: risk.hessian() @ torch.ones(risk.size, dtype=F64),
    "dense": lambda risk: risk.hessian().to_dense(),
    "nudged": lambda risk: risk.hessian().multiply_nudged(torch.ones(risk.size, 1, dtype=F64)),
    "scipy": lambda risk: risk.hessian().to_scipy() @ torch.ones(risk.size, dtype=F64).numpy(),
    "certify": ls.certify,
    "certify a large one": lambda risk: ls.certify(risk, max_parameters=1, tolerance=1e200),
    "inertia": lambda risk: inertia(risk.hessian()),
    "partial inertia": lambda risk: partial_inertia(risk.hessian()),
    "eigenpairs": lambda risk: eigenpairs(risk.hessian(), 1),
    "most negative": lambda risk: most_negative_eigenpair(risk.hessian()),
    "trace": lambda risk: trace(risk.hessian()),
    "hutch++": lambda risk: trace(risk.hessian(), method="hutch++"),
    "blocks": lambda risk: trace_by_layer(risk.hessian(), {"p": slice(0, risk.size)}),
    "diagonal": lambda risk: diagonal(risk.hessian()),
    "exact diagonal": lambda risk: diagonal(risk.hessian(), exact=True),
    "density": lambda risk: spectral_density(risk.hessian()),
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", RISKS)
def test_products_that_are_not_finite_are_refused_by_name(name: str, reading: str) -> None:
    risk = RISKS[name]
    before = risk.flatten().clone()
    if reading.startswith("certify") and name in KINKED:
        # At a kink no Hessian is asked for; all of these are minima but the second, which falls with its square.
        falls = {"not critical"} if name == "norm and a square" else set()
        assert READINGS[reading](risk).kind in {"non-smooth stationary", "undecided"} | falls
        return
    with pytest.raises(NotFiniteError, match=r"not finite in 'p'") as caught:
        READINGS[reading](risk)
    assert "\n" not in str(caught.value)
    assert torch.equal(risk.flatten(), before)


def test_the_function_is_named_and_autograd_is_left_as_it_was() -> None:
    with pytest.raises(NotFiniteError, match="first from PowBackward0"):
        RISKS["power 3/2 at 0"].hessian().to_dense()
    assert not torch.is_anomaly_enabled()


@pytest.mark.parametrize("name", RISKS)
def test_a_search_ends_there_and_does_not_fail(name: str) -> None:
    assert ls.find_critical_point(RISKS[name]).status == "diverging"


@pytest.mark.parametrize("name", RISKS)
def test_readings_say_that_it_is_the_hessian(name: str) -> None:
    risk = RISKS[name]
    reading, inspection = plateau_reading(risk), ls.inspect(risk, announce=lambda _: None)
    for said in (reading, inspection.plateau):
        assert said.state == "not finite"
        assert said.reading.startswith("The Hessian is not finite here: ")
        assert said.newton_step.length != said.newton_step.length
        assert not said.descends
    assert "Hessian is not finite" in inspection.verdict
    assert inspection.whole.status == "not finite"


@pytest.mark.parametrize(
    ("function", "start", "opening"),
    [
        (lambda p: p.square().sum().sqrt(), 0.0, "The gradient is not finite here, in 'p'."),
        (lambda p: p.square().sqrt().sum() + 1, 0.0, "The gradient is not finite here, in 'p'."),
        (lambda p: p.log().sum(), -1.0, "R is not finite here: it is nan."),
        (lambda p: p.exp().sum(), 1e3, "R is not finite here: it is inf."),
    ],
)
def test_readings_say_which_term(function: Callable[[Tensor], Tensor], start: float, opening: str) -> None:
    risk = risk_of(function, torch.full((3,), start, dtype=F64))
    assert plateau_reading(risk).reading == opening
    inspection = ls.inspect(risk)
    assert inspection.verdict.startswith(opening)
    assert ls.certify(risk).kind in {"not critical", "undecided"}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("size", [1, 2, 60])
def test_matrices_that_are_not_finite_have_no_inertia(bad: float, size: int) -> None:
    matrix = torch.eye(size, dtype=F64)
    matrix[0, 0] = bad
    for wrong in (matrix, torch.full((size, size), bad, dtype=F64)):
        with pytest.raises(NotFiniteError, match="not finite"):
            inertia(wrong)
    with pytest.raises(NotFiniteError, match=f"1 of {size} eigenvalues are not finite"):
        inertia_of_spectrum(matrix.diagonal(), 1e-9)
    with pytest.raises(NotFiniteError, match="not finite"):
        inertia(torch.eye(size, dtype=F64), gradient_norm=torch.nan)


class Deep(nn.Module):
    """Two maps with a norm of the second's output, which has no second derivative at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 3, dtype=F64), nn.Linear(3, 2, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        """Return a norm for each sample."""
        return self.second(torch.tanh(self.first(x))).norm(dim=1, keepdim=True)


def deep() -> ls.EmpiricalRisk:
    """Return a network whose output is 0 at a kink of the norm."""
    model = Deep()
    nn.init.zeros_(model.second.weight)
    nn.init.zeros_(model.second.bias)
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    return ls.EmpiricalRisk(model, "mse", (x, torch.ones(8, 1, dtype=F64)))


def test_parameters_of_a_network_are_named() -> None:
    with pytest.raises(
        NotFiniteError, match=r"in 'first.weight', 'first.bias', 'second.weight' and 1 more, first from"
    ):
        deep().hessian().to_dense()


def test_escape_is_refused_in_one_sentence() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    risk = ls.EmpiricalRisk(model, lambda z, _: z.abs().pow(1.5).mean() + 1e-3 * z.mean() + 1, (x, x))
    with pytest.raises(NotFiniteError, match="The Hessian is not finite here"):
        ls.escape(risk)


def test_a_monitor_goes_on() -> None:
    monitor = ls.Monitor(deep())
    reading = monitor.record(0)
    assert (reading.lowest_status, reading.highest_status) == ("not finite", "not finite")
    assert reading.lowest != reading.lowest
    assert len(monitor.readings) == 1
