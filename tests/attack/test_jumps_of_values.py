"""Where R itself jumps no kind that supposes a continuous R is said; what falls on one side is checked on values."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import liftscape as ls
from liftscape.outcomes import ModelError

from .functions import F64, risk_of

# What is right at a jump: nothing, that R falls on one side, or a gradient that is there on all sides.
UNSURE = {"undecided", "not critical"}
THRESHOLDS = [0.0, 0.3, 1.0, 3.0, 8.0, 12.0, 14.0, 17.0, 20.0]
BOWLS = {
    "bowl": lambda q: (q**2).sum(),
    "saddle": lambda q: q[0] ** 2 - q[1] ** 2,
    "maximum": lambda q: -(q**2).sum(),
    "steep bowl": lambda q: 1e4 * (q**2).sum(),
}


def slope_of(function, at: float, side: float) -> float:
    """The slope of a piecewise smooth function of one number beside a point, by autograd on that side."""
    t = torch.tensor(at + side * 1e-7, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(t), t)
    return float(slope)


def falls(function, at: float) -> bool:
    """Tell whether a function of one number is lower beside a point, by more than slopes and rounding make."""
    value = float(function(torch.tensor(at, dtype=F64)))
    sides = [float(function(torch.tensor(at + side, dtype=F64))) - value for side in (1e-12, -1e-12)]
    return min(sides) < -1e-11


@pytest.mark.parametrize("bowl", BOWLS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_softplus_at_its_threshold(threshold, beta, side, sign, bowl) -> None:
    """torch's Softplus falls by log(1 + exp(−threshold))/beta there; its slope on one side is taken off."""
    at = threshold / beta
    curve = lambda t: functional.softplus(t, beta, threshold)
    slope = slope_of(curve, at, side)
    function = lambda p: sign * (curve(p[0]) - slope * p[0]) + BOWLS[bowl](p - torch.tensor([at, 0.0], dtype=F64))
    kind = ls.certify(risk_of(function, [at, 0.0]), tolerance=1e-6).kind
    jump = math.log1p(math.exp(-threshold)) / beta
    assert kind in UNSURE | {"one-sided saddle"}, (kind, jump)


# Of one number, with a jump at 0, and their names for the report.
JUMPS = {
    "hardshrink": lambda t: functional.hardshrink(t + 0.5, 0.5) - (t + 0.5) * (t > 0),
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": lambda t: torch.round(t - 0.5),
    "trunc": lambda t: torch.trunc(t + 1),
    "frac": lambda t: torch.frac(t + 1) - t,
    "remainder": lambda t: torch.remainder(t, 1.0) - t,
    "floor division": lambda t: torch.div(t, 0.7, rounding_mode="floor"),
    "sign": torch.sign,
    "greater": lambda t: (t > 0).to(t),
    "greater or equal": lambda t: (t >= 0).to(t),
    "where": lambda t: torch.where(t > 0, t**2 + 1e-3, t**2),
    "mask": lambda t: (t * 0 + 1.0).masked_fill(t < 0, 0.0),
    "whole number": lambda t: (t + 1).to(torch.int64).to(t),
    "largest": lambda t: torch.stack([t, -t]).argmax().to(t),
    "threshold": lambda t: functional.threshold(t, 0.0, 0.5) - t * (t > 0),
    "not": lambda t: (t > 0).logical_not().to(t),
    "bucket": lambda t: torch.bucketize(t, torch.tensor([0.0], dtype=F64)).to(t),
    "signbit": lambda t: torch.signbit(t).to(t),
    "copysign": lambda t: torch.copysign(torch.ones_like(t), t),
    "one of two": lambda t: torch.tensor([0.0, 1.0], dtype=F64)[(t > 0).long()],
}


@pytest.mark.parametrize("beside", [0.0, 1e-16, -1e-16])
@pytest.mark.parametrize("size", [1.0, -1.0, -1e-5])
@pytest.mark.parametrize("bowl", ["bowl", "saddle", "maximum"])
@pytest.mark.parametrize("name", JUMPS)
def test_what_jumps_at_the_point(name, bowl, size, beside) -> None:
    def function(p: Tensor) -> Tensor:
        # The argument is one more number that is rounded, by about what lies beside.
        return size * JUMPS[name](p[0] + 0.7 - (0.7 + beside)) + BOWLS[bowl](p)

    try:
        kind = ls.certify(risk_of(function, [0.0, 0.0])).kind
    except ModelError:
        return  # some of them have no second derivative in torch
    assert kind in UNSURE | {"one-sided saddle"}, kind
    if kind == "one-sided saddle":
        # Without the bowl's own fall, by values.
        assert BOWLS[bowl](torch.tensor([1e-3, 1e-3], dtype=F64)) <= 0 or falls(lambda t: size * JUMPS[name](t), 0.0)


@pytest.mark.parametrize("beside", [1e-3, -1e-3])
@pytest.mark.parametrize("name", ["greater", "sign", "floor", "copysign"])
def test_a_jump_away_from_the_point_changes_nothing(name, beside) -> None:
    kind = ls.certify(risk_of(lambda p: -JUMPS[name](p[0] - beside) + (p**2).sum(), [0.0, 0.0])).kind
    assert kind in {"local minimum", "undecided"}
