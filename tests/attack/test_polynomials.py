"""Certificates of functions whose kind at 0 is known by hand, under rotations and scalings from 10⁻⁶ to 10⁶."""

from collections.abc import Callable

import pytest
import torch

import liftscape as ls

from .functions import F64, FORMS, Form, moved, risk_of

QUICK, LONG = 1, 20


def are_right(form: Form, seeds: range, record_property: Callable[[str, object], None]) -> None:
    """Certify the form under each seed's rotation and scaling; no kind may be wrong, and the undecided are counted."""
    kinds = {seed: ls.certify(moved(form, seed)).kind for seed in seeds}
    record_property("undecided", (sum(kind == "undecided" for kind in kinds.values()), len(kinds)))
    assert {seed: kind for seed, kind in kinds.items() if kind not in form.right | {"undecided"}} == {}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_no_kind_is_wrong(form: Form, record_property: Callable[[str, object], None]) -> None:
    are_right(form, range(QUICK), record_property)


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_no_kind_is_wrong_in_many(form: Form, record_property: Callable[[str, object], None]) -> None:
    are_right(form, range(QUICK, LONG), record_property)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_what_is_decided_at_scale_one(form: Form) -> None:
    """Without scaling nothing that is visible at all stays undecided, but for what lies below the error bound."""
    certificate = ls.certify(risk_of(form.function, torch.zeros(form.variables, dtype=F64)))
    assert certificate.kind in form.right, certificate.reason


@pytest.mark.parametrize(
    ("function", "known", "right"),
    [
        (lambda p: p[0] ** 2 + p[1] ** 3, "direction", "saddle"),
        (lambda p: p[0] ** 2 + p[1] ** 3, "count", "saddle"),
        (lambda p: p[0] ** 2 + p[1] ** 4, "direction", "minimum candidate"),
        (lambda p: p[0] ** 2 + p[1] ** 4, "count", "minimum candidate"),
        (lambda p: p[0] ** 2 - p[1] ** 6, "direction", "saddle"),
        (lambda p: p[0] ** 2 + torch.tanh(1e4 * p[1]) ** 3, "direction", "saddle"),
        (lambda p: p[0] ** 2 + torch.tanh(1e6 * p[1]) ** 5, None, "saddle"),
        (lambda p: p[0] ** 2 + 0 * p[1], "direction", "degenerate local minimum"),
        (lambda p: p[0] ** 2 + 0 * p[1], "count", "degenerate local minimum"),
        (lambda p: (p[0] - p[1] ** 2) ** 2, "direction", "degenerate local minimum"),
    ],
)
def test_directions_that_are_said_to_be_flat_are_followed(function, known, right) -> None:
    flat = {"direction": torch.tensor([[0.0], [1.0]], dtype=F64), "count": 1, None: None}[known]
    assert ls.certify(risk_of(function, [0.0, 0.0]), known_flat=flat).kind == right


@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e6, 1e8])
def test_a_common_shift_that_only_large_terms_do_not_see_is_no_symmetry(ratio: float) -> None:
    """R(W) = a²(W₁₁² + W₂₁²) − b²(W₁₂ + W₂₂)² + a²(W₁₂ − W₂₂)², which falls along W₁₂ = W₂₂."""
    a, b = ratio**0.5, ratio**-0.5
    model = torch.nn.Linear(2, 2, bias=False, dtype=F64)
    torch.nn.init.zeros_(model.weight)
    x = torch.tensor([[a, 0.0], [0.0, b]], dtype=F64)
    loss = lambda z, y: (z[0] ** 2).sum() - z[1].sum() ** 2 + (a / b) ** 2 * (z[1, 0] - z[1, 1]) ** 2
    certificate = ls.certify(ls.EmpiricalRisk(model, loss, (x, torch.zeros(2, 1, dtype=F64))))
    assert certificate.kind in {"strict saddle", "undecided"}, certificate.reason


@pytest.mark.parametrize("size", [1e-9, 1e-10, 1e-11])
@pytest.mark.parametrize("power", [3, 4, 5])
@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_a_small_positive_curvature_makes_no_saddle(size: float, power: int, constant: float) -> None:
    function = lambda p: constant + 1e6 * p[0] ** 2 + size * p[1] ** 2 / 2 - p[1] ** power
    certificate = ls.certify(risk_of(function, [0.0, 0.0]))
    assert certificate.kind in {"local minimum", "minimum candidate", "undecided"}, certificate.reason


@pytest.mark.parametrize("scale", [1.0, 1e7, 1e14])
def test_rounding_of_the_point_is_no_kink(scale: float) -> None:
    saddle = risk_of(lambda p: scale * ((p[0] - 1 / 3) ** 2 - (p[1] - 1 / 3) ** 2), [1 / 3, 1 / 3])
    assert ls.certify(saddle).kind == "strict saddle"


@pytest.mark.parametrize("offset", [3.0, 30.0, 300.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_cancellation_inside_the_risk_is_seen_in_single_precision(offset: float, weight: float) -> None:
    """The variance of z = wx has the second derivative 2 Var x > 0."""
    x = (offset + 0.01 * torch.randn(200, 1, generator=torch.Generator().manual_seed(0), dtype=F64)).float()
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, weight)
    risk = ls.EmpiricalRisk(model, lambda z, y: (z**2).mean() - z.mean() ** 2, (x, x))
    for tolerance in (1e-9, 1e-1, 1e3):
        assert ls.certify(risk, tolerance=tolerance).kind not in {"strict saddle", "saddle", "one-sided saddle"}
