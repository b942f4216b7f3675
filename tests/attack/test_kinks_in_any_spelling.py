"""Functions with and without kinks at 0, in every way to write them; the kinds at 0 are known by hand."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor
from torch.nn import functional

import liftscape as ls

from .functions import F64, risk_of

# Each is −|t| of one number t, as a function of a tensor with one entry.
FALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": lambda t: -t.abs(),
    "relu": lambda t: -torch.relu(t) - torch.relu(-t),
    "maximum": lambda t: -torch.maximum(t, -t),
    "minimum": lambda t: torch.minimum(t, -t),
    "where": lambda t: -torch.where(t > 0, t, -t),
    "mask": lambda t: -t * ((t > 0).to(t) - (t < 0).to(t)),
    "indexing": lambda t: -torch.stack([-t, t])[(t > 0).long().reshape(-1)[0]],
    "sign": lambda t: -t * torch.sign(t),
    "max": lambda t: -torch.cat([t, -t]).max(),
    "amax": lambda t: -torch.cat([t, -t]).amax(0),
    "sort": lambda t: -torch.cat([t, -t]).sort().values[-1],
    "topk": lambda t: -torch.cat([t, -t]).topk(1).values,
    "norm 1": lambda t: -torch.linalg.vector_norm(t, 1),
    "norm 2": lambda t: -torch.linalg.vector_norm(t, 2),
    "norm inf": lambda t: -torch.linalg.vector_norm(torch.cat([t, t / 2]), float("inf")),
    "clamp": lambda t: -t.clamp(min=0) + t.clamp(max=0),
    "hardtanh": lambda t: -functional.hardtanh(t, 0.0, 9.0) - functional.hardtanh(-t, 0.0, 9.0),
    "threshold": lambda t: -functional.threshold(t, 0.0, 0.0) - functional.threshold(-t, 0.0, 0.0),
    "leaky": lambda t: -2 * functional.leaky_relu(t, 0.5) + 1.5 * t - 0.5 * functional.leaky_relu(-t, 0.0),
    "max pool": lambda t: -functional.max_pool1d(torch.cat([t, -t]).reshape(1, 1, 2), 2),
    "l1 loss": lambda t: -functional.l1_loss(t, torch.zeros_like(t)),
    "huber of no width": lambda t: -functional.smooth_l1_loss(t, torch.zeros_like(t), beta=0.0),
    "heaviside": lambda t: -t * (2 * torch.heaviside(t.detach(), torch.zeros_like(t)) - 1),
    "branch": lambda t: -t if bool(t > 0) else t,
    "singular value": lambda t: -torch.linalg.matrix_norm(torch.diag(t), "nuc"),
}
# Each is of no effect on the kind, and smooth.
SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "square": lambda t: t**2,
    "product": lambda t: t * t,
    "log cosh": lambda t: torch.log(torch.cosh(t)),
    "softplus": lambda t: functional.softplus(t) - t / 2,
    "gelu": lambda t: functional.gelu(t) - t / 2,
    "logsumexp": lambda t: torch.logsumexp(torch.cat([t, -t]), 0),
    "softmax": lambda t: -torch.softmax(torch.cat([t, -t]), 0).prod(),
    "cosine": lambda t: -torch.cos(t),
    "einsum": lambda t: torch.einsum("i,i->", t, t),
    "bce": lambda t: functional.binary_cross_entropy_with_logits(t, torch.full_like(t, 0.5)),
    "sigmoid": lambda t: -torch.sigmoid(t) * torch.sigmoid(-t),
    "inverse": lambda t: torch.linalg.inv(torch.eye(2).to(t) + torch.diag(torch.cat([t, -t]))).trace(),
    "huber inside": lambda t: functional.huber_loss(t, torch.zeros_like(t)),
    "clamp elsewhere": lambda t: (t.clamp(-3, 3)) ** 2,
    "max elsewhere": lambda t: t**2 + torch.cat([t, t + 1]).max() - t,
}


def placed(part: Callable[[Tensor], Tensor], seed: int) -> Callable[[Tensor], Tensor]:
    """f(p) = part(q·p) + ‖p‖² with a random unit vector q."""
    q = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=F64)
    q = q / q.norm()
    return lambda p: part((q @ p).reshape(1)).sum() + (p**2).sum()


def kind_of(function: Callable[[Tensor], Tensor], at: list[float]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ls.certify(risk_of(function, at)).kind


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("spelling", FALLS)
def test_a_fall_to_first_order_is_no_minimum_in_any_spelling(spelling: str, seed: int) -> None:
    kind = kind_of(placed(FALLS[spelling], seed), [0.0, 0.0, 0.0])
    assert kind in {"one-sided saddle", "undecided"}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("spelling", FALLS)
def test_a_rise_to_first_order_is_stationary_in_any_spelling(spelling: str, seed: int) -> None:
    kind = kind_of(placed(lambda t: -FALLS[spelling](t), seed), [0.0, 0.0, 0.0])
    assert kind in {"non-smooth stationary", "undecided"}


@pytest.mark.parametrize("spelling", SMOOTH)
def test_smooth_functions_are_minima(spelling: str) -> None:
    assert kind_of(placed(SMOOTH[spelling], 0), [0.0, 0.0, 0.0]) == "local minimum"


@pytest.mark.parametrize("width", [2, 30, 60, 90])
def test_many_kinks_at_once_do_not_hide_that_zero_is_a_generalised_gradient(width: int) -> None:
    function = lambda p: functional.leaky_relu(p, 0.5).mean() - 0.75 * p.mean()
    assert kind_of(function, [0.0] * width) == "non-smooth stationary"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variables", [5, 20])
def test_least_absolute_deviations_are_stationary_at_their_optimum(variables: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = 3 * variables
    A, y = generator.normal(size=(count, variables)), generator.normal(size=count)
    ones = np.ones(count)
    found = linprog(
        np.r_[np.zeros(variables), ones],
        A_ub=np.block([[A, -np.eye(count)], [-A, -np.eye(count)]]),
        b_ub=np.r_[y, -y],
        bounds=[(None, None)] * variables + [(0, None)] * count,
    )
    active = np.abs(A @ found.x[:variables] - y).argsort()[:variables]
    rows, target = torch.from_numpy(A), torch.from_numpy(y)
    deviation = lambda p: (rows @ p - target).abs().mean()
    optimum = np.linalg.solve(A[active], y[active])
    for point in (optimum, found.x[:variables]):
        assert kind_of(deviation, point.tolist()) in {"non-smooth stationary", "undecided"}
    away = optimum + 1e-3 * generator.normal(size=variables)
    assert kind_of(deviation, away.tolist()) in {"not critical", "gradient-flat"}


@pytest.mark.parametrize(
    "linear", [lambda p: torch.relu(p) - torch.relu(-p), lambda p: p.clamp(min=0) + p.clamp(max=0)]
)
def test_what_autograd_returns_at_a_kink_need_not_be_a_gradient(linear) -> None:
    assert kind_of(lambda p: linear(p).sum(), [0.0]) == "not critical"
    assert kind_of(lambda p: linear(p).sum() + (p**2).sum(), [0.0, 0.0]) == "not critical"


@pytest.mark.parametrize("variables", [3, 6, 12])
@pytest.mark.parametrize("seed", range(2))
def test_a_fall_in_a_narrow_cone_is_found(variables: int, seed: int) -> None:
    """Σ|qᵢ·p| − 1.5|q₁·p| falls where |q₁·p| is more than twice the others' sum."""
    draws = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(variables, variables, generator=draws, dtype=F64))[0]
    function = lambda p: (Q @ p).abs().sum() - 1.5 * (Q @ p)[0].abs()
    assert kind_of(function, [0.0] * variables) == "one-sided saddle"


@pytest.mark.parametrize("norm", [lambda v: v.norm(), lambda v: torch.linalg.vector_norm(v, 3)])
def test_a_fall_between_norms_is_found(norm) -> None:
    function = lambda p: norm(p[2:4]) + norm(p[4:]) - 0.5 * norm(p[:2])
    assert kind_of(function, [0.0] * 6) == "one-sided saddle"


def test_a_search_at_kinks_keeps_its_budget() -> None:
    """A fit by absolute values that is exact, with 1,681 parameters: no dense Hessian, and gradients by the budget."""
    model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Tanh(), torch.nn.Linear(40, 1)).to(F64)
    x = torch.randn(30, 40, generator=torch.Generator().manual_seed(0), dtype=F64)
    risk = ls.EmpiricalRisk(model, torch.nn.functional.l1_loss, (x, model(x).detach()))
    counted = Counted()
    with counted:
        certificate = ls.certify(risk, max_products=50)
    assert certificate.kind in {"non-smooth stationary", "undecided"}
    # A forward and a backward pass of 30 samples run about sixty kernels; 50 products are at most 200 such passes.
    assert counted.matrices < 4000


class Counted(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the products with matrices."""

    matrices = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.matrices += func.overloadpacket.__name__ in {"addmm", "mm", "bmm", "linear", "baddbmm"}
        return func(*args, **(kwargs or {}))
