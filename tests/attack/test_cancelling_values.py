"""Right gradients of values that cancel to their rounding are never refused; wrong ones beside such terms still are."""

from collections.abc import Callable
from math import cos, exp, log, sin

import pytest
import torch
from torch import Tensor

import liftscape as ls
from liftscape.outcomes import ModelError

from .functions import F64, risk_of

Function = Callable[[Tensor], Tensor]

# Each is zero for every t, and computed as a difference of numbers of size one.
ZEROS: dict[str, Function] = {
    "exponential": lambda t: torch.exp(0.3 + t) - exp(0.3) * torch.exp(t),
    "sine": lambda t: torch.sin(0.7 + t) - sin(0.7) * torch.cos(t) - cos(0.7) * torch.sin(t),
    "square": lambda t: (1.1 + t) ** 2 - 1.21 - 2.2 * t - t**2,
    "logarithm": lambda t: torch.log(0.3 * (1.5 + t)) - log(0.3) - torch.log(1.5 + t),
    "tanh": lambda t: torch.tanh(0.4 + t) - (2 * torch.sigmoid(0.8 + 2 * t) - 1),
    "softplus": lambda t: torch.nn.functional.softplus(t) - torch.log1p(torch.exp(t)),
    "quotient": lambda t: (1 - t**2) / (1.7 - t) - (1 - t) * (1 + t) / (1.7 - t),
    "variance": lambda t: torch.stack([t + 3, t + 4]).square().mean(0) - (t + 3.5) ** 2 - 0.25,
    "shift": lambda t: (t + 100.1) - 100.1 - t,
}
# Of second order at 0, in a way that cancels there.
CANCELLING: dict[str, Function] = {
    "entropy": lambda t: torch.xlogy(t + 1, t + 1) - t,
    "logarithm": lambda t: t - torch.log1p(t),
    "exponential": lambda t: torch.exp(t) - 1 - t,
    "cosine": lambda t: 1 - torch.cos(t),
    "root": lambda t: (1 + t**2).sqrt() - 1,
    "divergence": lambda t: (1 + t) * torch.log(1 + t) + (1 - t) * torch.log(1 - t),
}


def place(size: int, seed: int, origin: bool) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.zeros(size, dtype=F64) if origin else 0.3 * torch.randn(size, generator=draws, dtype=F64).clamp(-2, 2)


@pytest.mark.parametrize("origin", [True, False])
@pytest.mark.parametrize("size", [2, 3, 4, 7])
@pytest.mark.parametrize("factor", [1e4, 1e8, 1e10, 1e12, 1e14])
@pytest.mark.parametrize("name", ZEROS)
def test_a_zero_that_is_computed_as_a_difference_is_not_refused(name, factor, size, origin) -> None:
    for entry in (0, 1):
        risk = risk_of(lambda p, entry=entry: factor * ZEROS[name](p[entry]) + (p**2).sum(), place(size, size, origin))
        risk.check_derivatives()


@pytest.mark.parametrize("origin", [True, False])
@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("factor", [1.0, 1e4, 1e8])
@pytest.mark.parametrize("name", CANCELLING)
def test_a_value_that_cancels_at_the_point_is_not_refused(name, factor, size, origin) -> None:
    rest = lambda p: (p[1:] ** 2).sum()
    risk_of(lambda p: factor * CANCELLING[name](p[0]) + rest(p), place(size, size, origin)).check_derivatives()
    certificate = ls.certify(risk_of(lambda p: factor * CANCELLING[name](p[0]) + rest(p), place(size, 0, True)))
    assert certificate.kind in {"local minimum", "undecided", "minimum candidate"}


@pytest.mark.parametrize("share", [1.0, 0.05])
@pytest.mark.parametrize("factor", [1.0, 1e4, 1e6])
@pytest.mark.parametrize("name", ZEROS)
def test_a_wrong_gradient_beside_a_cancelling_term_is_refused(name, factor, share) -> None:
    """x² whose gradient is wrong by a share, far above what the term's rounding is."""
    wrong = lambda p: (1 - share) * p[0] ** 2 + share * p[0] * p[0].detach()
    risk = risk_of(lambda p: factor * ZEROS[name](p[1]) + wrong(p), [0.7, -0.4])
    with pytest.raises(ModelError, match="the gradient is not the derivative of the loss"):
        risk.check_derivatives()
