"""A term that underflows to zero is not told from one that is not there: no minimum is certified on its absence."""

import pytest
import torch

import liftscape as ls

from .functions import F64, risk_of

UNSURE = {"minimum candidate", "undecided", "saddle"}
# Of one number; each falls or rises along it in exact arithmetic, and is 0 to the last digit in double precision.
HIDDEN = {
    "fourth power": lambda y: (1e-100 * y) ** 4,
    "square": lambda y: (1e-170 * y).square(),
    "product": lambda y: (1e-200 * y) * (1e-200 * y),
    "cubed product": lambda y: (1e-120 * y) * (1e-120 * y) * (1e-120 * y),
    "division": lambda y: (y / 1e200) ** 2,
    "scaled afterwards": lambda y: 1e-200 * (1e-200 * y),
    "gaussian": lambda y: torch.exp(-1e3 - y**2),
    "reciprocal": lambda y: 1e-200 / (1e200 * (2 + torch.sin(y))),
}


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("name", HIDDEN)
def test_what_underflows_is_no_flat_direction(name, told, sign) -> None:
    risk = risk_of(lambda p: p[0] ** 2 + sign * HIDDEN[name](p[1]), [0.0, 0.0])
    known = torch.tensor([[0.0], [1.0]], dtype=F64) if told else None
    assert ls.certify(risk, known_flat=known).kind in UNSURE


FLAT = {
    "not read": lambda y: 0 * y,
    "times zero": lambda y: y * torch.zeros((), dtype=F64),
    "masked": lambda y: y.masked_fill(torch.ones((), dtype=torch.bool), 0.0),
    "small but there": lambda y: 0 * (1e-100 * y),
}


@pytest.mark.parametrize("name", FLAT)
def test_what_is_not_there_stays_a_flat_direction(name) -> None:
    risk = risk_of(lambda p: p[0] ** 2 + FLAT[name](p[1]), [0.0, 0.0])
    assert ls.certify(risk).kind == "degenerate local minimum"
