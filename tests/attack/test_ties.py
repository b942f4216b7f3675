"""Order statistics have kinks where entries are equal; what is said there is no kind of a smooth point."""

import pytest
import torch

import liftscape as ls
from liftscape.functional import RandomRounding

from .functions import F64, risk_of

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")

WEIGHTS = torch.tensor([1.0, -2.0, 4.0, 0.5], dtype=F64)
STATISTICS = {
    "median": lambda p: p.median(),
    "median of rows": lambda p: torch.stack([p, p.flip(0)]).median(dim=1).values.sum(),
    "nanmedian": lambda p: p.nanmedian(),
    "kthvalue": lambda p: p.kthvalue(2).values,
    "sort": lambda p: p.sort().values @ WEIGHTS[: len(p)],
    "msort": lambda p: torch.msort(p)[0],
    "argsort": lambda p: p[p.argsort()][0],
    "topk": lambda p: p.topk(2).values.sum(),
    "quantile": lambda p: p.quantile(0.3),
    "nanquantile": lambda p: p.nanquantile(0.7),
    "mode": lambda p: torch.mode(p).values,
    "cummax": lambda p: p.cummax(0).values.sum(),
    "cummin": lambda p: p.cummin(0).values @ WEIGHTS[: len(p)],
    "aminmax": lambda p: torch.aminmax(p).max,
    "amax": lambda p: p.amax(0),
    "amin": lambda p: p.amin(0),
    "max": lambda p: p.max(),
    "min": lambda p: p.min(),
    "range": lambda p: p.max() - p.min(),
    "larger halves": lambda p: torch.maximum(p, p.flip(0)).sum(),
    "largest norm": lambda p: p.norm(p=float("inf")),
    "pooled": lambda p: torch.nn.functional.max_pool1d(p[None, None], 2, 1).sum(),
    "adaptive pool": lambda p: torch.nn.functional.adaptive_max_pool1d(p[None, None], 1).sum(),
}
# Where at least two entries that a statistic compares are equal.
TIES = {
    "all at zero": [0.0, 0.0, 0.0],
    "all": [0.7, 0.7, 0.7],
    "all of four": [-1.3, -1.3, -1.3, -1.3],
}
NOT_SMOOTH = {"undecided", "not critical", "one-sided saddle", "non-smooth stationary"}


@pytest.mark.parametrize("bend", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("name", STATISTICS)
def test_a_tie_is_a_kink(name, ties, bend) -> None:
    at = torch.tensor(TIES[ties], dtype=F64)
    risk = risk_of(lambda p: STATISTICS[name](p) + bend * ((p - at) ** 2).sum(), at)
    assert ls.certify(risk).kind in NOT_SMOOTH


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("name", STATISTICS)
def test_a_tie_whose_gradient_is_taken_off(name, ties) -> None:
    """What autograd returns at the tie is zero, and the function falls on some side of it, or does not."""
    at = torch.tensor(TIES[ties], dtype=F64)
    statistic = STATISTICS[name]
    there = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(statistic(there), there)
    risk = risk_of(lambda p: statistic(p) - gradient @ p + ((p - at) ** 2).sum(), at)
    assert ls.certify(risk).kind in NOT_SMOOTH


@pytest.mark.parametrize("name", STATISTICS)
def test_rounding_leaves_gradients_of_order_statistics_finite(name) -> None:
    """A selected number is not rounded, and backward passes find it by comparing."""
    p = torch.tensor([0.3, 1.1, 0.7], dtype=F64, requires_grad=True)
    (exact,) = torch.autograd.grad(STATISTICS[name](p), p)
    with RandomRounding(0):
        (moved,) = torch.autograd.grad(STATISTICS[name](p), p)
    assert torch.allclose(moved, exact, atol=1e-12)
