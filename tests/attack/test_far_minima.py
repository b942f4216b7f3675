"""Minima far from the start are found, or not, but never said to lie at infinity; what runs to infinity is."""

import pytest
import torch
from torch import nn

import liftscape as ls

from .functions import F64, risk_of

METHODS = ("newton-mr", "minimum", "gradient-norm")
DISTANCES = [10.0**power for power in range(6, 13)]
EPS = 2.0**-52


def quadratic(distance: float, size: int, spread: float, rank: int, seed: int):
    """½(p − c)ᵀA(p − c) with rotated A of given rank and condition, and its minimum c, ‖c‖ = distance."""
    draws = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=draws, dtype=F64))[0]
    curvatures = spread ** -torch.linspace(0, 1, size, dtype=F64)
    curvatures[rank:] = 0
    direction = torch.randn(size, generator=draws, dtype=F64)
    centre = distance * direction / direction.norm()
    root = rotation * curvatures.sqrt()
    return (lambda p: ((p - centre) @ root).square().sum() / 2), centre, rotation[:, :rank]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("size", "spread"), [(1, 1.0), (3, 1.0), (3, 1e2), (5, 1e4)])
def test_a_quadratic_s_minimum_is_found_at_any_distance(method, distance, size, spread) -> None:
    function, centre, _ = quadratic(distance, size, spread, size, seed=size)
    # Entries of θ are rounded by eps·|θ|, and the gradient with them.
    tolerance = 100 * EPS * distance
    search = ls.find_critical_point(risk_of(function, [0.0] * size), method=method, tolerance=tolerance)
    assert search.status == "converged", (search.status, search.reason)
    assert float((search.params["p"] - centre).norm()) <= 1e3 * spread * EPS * distance


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("distance", [1.0, 1e3, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("rank", [1, 2])
def test_a_valley_s_floor_is_found_at_any_distance(method, distance, rank) -> None:
    function, centre, seen = quadratic(distance, 3, 10.0, rank, seed=rank)
    tolerance = 1e3 * EPS * distance
    search = ls.find_critical_point(risk_of(function, [0.0] * 3), method=method, tolerance=tolerance)
    assert search.status == "converged", (search.status, search.reason)
    assert float((seen.T @ (search.params["p"] - centre)).norm()) <= 1e5 * EPS * distance


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("distance", [1e4, 1e6, 1e9])
def test_least_squares_of_large_targets(method, distance) -> None:
    """Also with a feature twice, where the minima are a line."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=draws, dtype=F64)
    x = torch.cat([x, x[:, :1]], dim=1)
    y = distance * (x.sum(1, keepdim=True) + 1)
    torch.manual_seed(0)
    risk = ls.EmpiricalRisk(nn.Linear(3, 1, dtype=F64), "mse", (x, y))
    search = ls.find_critical_point(risk, method=method, tolerance=1e3 * EPS * distance)
    assert search.status == "converged", (search.status, search.reason)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(
    "shape",
    [
        lambda d: (d**4).sum(),
        lambda d: (d**2).sum() + 1e-3 * (d**4).sum(),
        lambda d: (d**6).sum(),
    ],
)
def test_a_far_minimum_is_never_called_diverging(method, distance, shape) -> None:
    centre = torch.tensor([distance, -distance / 3], dtype=F64)
    search = ls.find_critical_point(risk_of(lambda p: shape(p - centre), [0.0, 0.0]), method=method)
    assert search.status != "diverging", search.reason


RUNAWAYS = {
    "exponential": lambda t: torch.exp(-t),
    "slow exponential": lambda t: torch.exp(-t / 1000),
    "fast exponential": lambda t: torch.exp(500 - 1000 * t),
    "logistic loss": lambda t: torch.nn.functional.softplus(-t),
    "tanh": lambda t: -torch.tanh(t),
    "squared": lambda t: (1 - torch.tanh(t)) ** 2,
    "inverse": lambda t: 1 / (1 + t),
    "inverse square": lambda t: 1 / (1 + t) ** 2,
    "root": lambda t: 1 / (1 + t).sqrt(),
    "logarithm": lambda t: -torch.log1p(t),
    "line": lambda t: -t,
    "downwards": lambda t: -(t**2) - t,
    "nearly a line": lambda t: -((1 + t) ** 0.9),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("beside", ["alone", "near", "far"])
@pytest.mark.parametrize("name", RUNAWAYS)
def test_what_falls_for_ever_never_converges_where_it_has_no_critical_point(name, beside, method) -> None:
    """t falls for ever, beside a bowl whose minimum is near, or far away."""
    centre = {"alone": None, "near": 1.0, "far": 1e8}[beside]
    bowl = lambda q: 0 * q if centre is None else (q - centre) ** 2 / 2
    risk = risk_of(lambda p: RUNAWAYS[name](p[0]) + bowl(p[1]), [0.5, 0.0])
    search = ls.find_critical_point(risk, method=method)
    # The parabola that opens downwards has its maximum at −½, and methods that seek no minimum find it.
    found = name == "downwards" and method != "minimum" and abs(float(search.params["p"][0]) + 0.5) < 1e-6
    assert search.status != "converged" or found, search.reason
    # Steps of a thousandth are no way to infinity yet.
    if beside == "alone" and method == "minimum" and name != "fast exponential":
        assert search.status == "diverging", search.reason
