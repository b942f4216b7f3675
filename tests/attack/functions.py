"""A risk that is any function of its parameters, and functions of known kind at 0 under rotations and scalings."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import liftscape as ls

F64 = torch.float64


class Parameters(nn.Module):
    """A module whose output are its parameters."""

    def __init__(self, at: Tensor) -> None:
        super().__init__()
        self.p = nn.Parameter(at.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.p.expand(len(x), -1)


def risk_of(function: Callable[[Tensor], Tensor], at: Tensor | list[float]) -> ls.EmpiricalRisk:
    """R(p) = function(p), at a point."""
    at = torch.as_tensor(at, dtype=F64) if not isinstance(at, Tensor) else at
    data = (torch.zeros(1, 1, dtype=at.dtype), torch.zeros(1, 1, dtype=at.dtype))
    return ls.EmpiricalRisk(Parameters(at), lambda z, y: function(z[0]), data)


@dataclass(frozen=True)
class Form:
    """A function f with f(0) least, not least, or neither known: its number of variables and the kinds that are right.

    Attributes:
        name: a name for the test's report.
        function: f of a vector.
        variables: how many it reads.
        right: kinds of which certify may say one, besides "undecided".
    """

    name: str
    function: Callable[[Tensor], Tensor]
    variables: int
    right: frozenset[str]


def _right(*kinds: str) -> frozenset[str]:
    return frozenset(kinds)


MINIMUM = _right("local minimum", "minimum candidate")
# A candidate says that no negative eigenvalue stands out, which is true of these.
DEGENERATE_SADDLE = _right("saddle", "minimum candidate")
DEGENERATE_MINIMUM = _right("minimum candidate")
FLAT = _right("degenerate local minimum", "minimum candidate")

FORMS = (
    Form("bowl", lambda x: (x**2).sum(), 3, MINIMUM),
    Form("bowl of two scales", lambda x: x[0] ** 2 + 1e-3 * x[1] ** 2 + 1e-6 * x[2] ** 2, 3, MINIMUM),
    Form("saddle", lambda x: x[0] ** 2 + x[1] ** 2 - x[2] ** 2, 3, _right("strict saddle")),
    Form(
        "shallow saddle",
        lambda x: x[0] ** 2 + x[1] ** 2 - 1e-4 * x[2] ** 2,
        3,
        _right("strict saddle", "minimum candidate"),
    ),
    Form("maximum", lambda x: -(x**2).sum(), 3, _right("strict saddle")),
    Form("saddle and quartic", lambda x: x[0] ** 2 - x[1] ** 2 + x[2] ** 4, 3, _right("strict saddle")),
    Form("cubic", lambda x: x[0] ** 2 + x[1] ** 2 + x[2] ** 3, 3, DEGENERATE_SADDLE),
    Form("monkey saddle", lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2 + x[2] ** 2, 3, DEGENERATE_SADDLE),
    Form("quartic fall", lambda x: x[0] ** 2 + x[1] ** 2 - x[2] ** 4, 3, DEGENERATE_SADDLE),
    Form("quintic", lambda x: x[0] ** 2 + x[1] ** 2 + x[2] ** 5, 3, DEGENERATE_SADDLE),
    Form(
        "fall on a parabola",
        lambda x: x[0] ** 2 / 2 + x[0] * x[1] ** 2 + 0.3 * x[1] ** 4 + x[2] ** 2,
        3,
        DEGENERATE_SADDLE,
    ),
    Form(
        "rise on a parabola",
        lambda x: x[0] ** 2 / 2 + x[0] * x[1] ** 2 + 0.7 * x[1] ** 4 + x[2] ** 2,
        3,
        DEGENERATE_MINIMUM,
    ),
    Form("quartic", lambda x: x[0] ** 2 + x[1] ** 2 + x[2] ** 4, 3, DEGENERATE_MINIMUM),
    Form("strict minimum in a fall", lambda x: x[0] ** 2 + 1e-9 * x[1] ** 2 - x[1] ** 4 + x[2] ** 2, 3, MINIMUM),
    Form("strict minimum in a cubic", lambda x: x[0] ** 2 + 1e-7 * x[1] ** 2 + x[1] ** 3 + x[2] ** 2, 3, MINIMUM),
    Form("valley", lambda x: x[0] ** 2 + x[1] ** 2, 3, FLAT),
    Form("curved valley", lambda x: (x[0] - x[1] ** 2) ** 2 + x[2] ** 2, 3, FLAT),
    Form("saturated cubic", lambda x: x[0] ** 2 + torch.tanh(1e3 * x[1]) ** 3 + x[2] ** 2, 3, DEGENERATE_SADDLE),
    Form("cosine", lambda x: -torch.cos(x).sum(), 3, MINIMUM),
    Form("sine saddle", lambda x: torch.cos(x[0]) + torch.sin(x[1]) ** 2 + x[2] ** 2, 3, _right("strict saddle")),
)


def moved(form: Form, seed: int, largest: float = 6.0) -> ls.EmpiricalRisk:
    """R(p) = s·f(a∘Qp) + c with a random rotation Q, scales a and s from 10⁻⁶ to 10⁶, and c = 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(form.variables, form.variables, generator=generator, dtype=F64))[0]
    draw = lambda *shape: largest * (2 * torch.rand(*shape, generator=generator, dtype=F64) - 1)
    rotation = rotation if seed % 3 else torch.eye(form.variables, dtype=F64)
    scales, size = 10 ** draw(form.variables), float(10 ** draw(1))
    scales = scales if seed % 2 else torch.full_like(scales, float(scales[0]))
    constant = float(seed % 5 == 0)
    return risk_of(
        lambda p: size * form.function(scales * (rotation @ p)) + constant, torch.zeros(form.variables, dtype=F64)
    )
