"""Constructed spectra with ratios to 1e12 against numpy: what is said of an end holds, whatever lies at the other."""

import numpy as np
import pytest
import torch
from torch import Tensor

import liftscape as ls
from liftscape.curvature import eigenpairs, inertia, most_negative_eigenpair, partial_inertia, plateau_reading

from .functions import risk_of

F64 = torch.float64


def rotated(values: np.ndarray, seed: int) -> np.ndarray:
    """Return Q diag(values) Qᵀ, symmetric to the last bit."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    A = (Q * values) @ Q.T
    return (A + A.T) / 2


def constructed(seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """Draw a spectrum with large values at one end or both, small ones of either sign, and a bulk between them."""
    draws = np.random.default_rng(seed)
    top = 10.0 ** draws.choice([3, 5, 6, 7, 8, 9, 10, 11, 12])
    m = int(draws.choice([60, 120, 200]))
    bulk = draws.uniform(0.5, 1, m) if draws.random() < 0.7 else np.logspace(-3, 0, m)
    family = draws.choice(["one", "several", "both ends", "positive", "ladder", "negative", "multiple"])
    outliers = {
        "one": [top, -1.0],
        "several": [*(top * draws.random(draws.integers(1, 8))), *[-1.0] * draws.integers(1, 4)],
        "both ends": [top, -top / 3, -1.0],
        "positive": [top],
        "ladder": [top, -1.0, *np.logspace(0, np.log10(top) - 1, 20)],
        "negative": [-top, 1.5],
        "multiple": [top, -1.0, -1.0, -0.9],
    }[str(family)]
    return rotated(np.concatenate([outliers, bulk]) * 10.0 ** draws.choice([-6, 0, 0, 6]), seed), draws


def check(seed: int) -> tuple[int, int]:
    """Compare what is said of a spectrum with the spectrum; return how much was said, and how much was left open."""
    A, draws = constructed(seed)
    single = draws.random() < 0.2
    given = A.astype(np.float32) if single else A
    exact = np.linalg.eigvalsh(given.astype(np.float64))
    slack = 20 * np.finfo(np.float64).eps * np.abs(exact).max()
    k, tolerance = int(draws.choice([1, 1, 2, 3])), float(draws.choice([1e-6, 1e-3]))
    generator = torch.Generator().manual_seed(seed)
    found = eigenpairs(
        given, k, which=str(draws.choice(["smallest", "largest", "both"])), tolerance=tolerance, generator=generator
    )
    for end, status in found.status.items():
        values, wanted = (found.smallest, exact[:k]) if end == "smallest" else (found.largest, exact[::-1][:k])
        first = 0 if end == "smallest" else len(found.values) - k
        bounds = found.residuals[first : first + k].numpy()
        error = np.abs(values.numpy() - wanted)
        assert status in {"converged", "unresolved"}, seed
        if status == "converged":
            assert (error <= 0.25 * np.abs(wanted) + slack).all(), seed
            assert (error <= np.maximum(bounds, found.resolution[end]) + slack).all(), seed
        else:
            assert (error <= bounds.max() + slack).all(), seed
            assert not found.converged[first : first + k].any(), seed
    counts = partial_inertia(given, generator=generator)
    assert counts.negative_at_least <= (exact < slack).sum(), seed
    assert counts.positive_at_least <= (exact > -slack).sum(), seed
    if counts.complete:
        assert counts.negative_at_least == (exact < 0).sum(), seed
    return len(found.status) + 1, sum(s != "converged" for s in found.status.values()) + (not counts.complete)


def test_what_is_said_of_an_end_holds() -> None:
    said, left = np.sum([check(seed) for seed in range(40)], axis=0)
    assert left < said / 3


@pytest.mark.long
def test_what_is_said_of_an_end_holds_in_many_cases() -> None:
    said, left = np.sum([check(seed) for seed in range(40, 440)], axis=0)
    print(f"{left} of {said} ends and counts were left open")
    assert left < said / 3


def one_negative(ratio: float) -> np.ndarray:
    """Return a matrix whose only negative eigenvalue is −1 beside one of the ratio and 298 in (½, 1)."""
    return rotated(np.concatenate([[ratio, -1.0], np.random.default_rng(0).uniform(0.5, 1, 298)]), 0)


@pytest.mark.parametrize("ratio", [1e5, 1e7, 1e8, 1e10, 1e12])
def test_a_negative_eigenvalue_far_below_the_largest_is_found(ratio: float) -> None:
    A = one_negative(ratio)
    for found in (most_negative_eigenpair(A), eigenpairs(A, 1), most_negative_eigenpair(A, tolerance=1e-3)):
        assert found.status["smallest"] == "converged"
        assert float(found.values[0]) == pytest.approx(-1, abs=0.1)
        assert float(found.values[0] + found.residuals[0]) < 0
    counts = partial_inertia(A)
    assert (counts.negative_at_least, counts.complete) == (1, True)


def test_what_few_products_resolve_is_not_called_converged() -> None:
    found = most_negative_eigenpair(one_negative(1e8), max_products=4)
    assert found.status["smallest"] in {"unresolved", "unverified"}
    assert not bool(found.converged[0])
    assert abs(float(found.values[0]) + 1) <= float(found.residuals[0])
    assert found.advice


def test_single_precision_hides_the_sign_and_says_so() -> None:
    A = one_negative(1e8).astype(np.float32)
    found, counts = most_negative_eigenpair(A), partial_inertia(A)
    assert found.status["smallest"] == "unresolved"
    assert found.resolution["smallest"] > 1
    assert "float64" in found.advice
    assert not counts.complete


def test_a_value_of_the_gradients_size_is_not_complete() -> None:
    A = rotated(np.concatenate([[-1e-3], np.linspace(0.5, 2, 200)]), 0)
    assert partial_inertia(A).complete
    assert not partial_inertia(A, gradient_norm=1e-3).complete


@pytest.mark.parametrize("ratio", [1e6, 1e8])
def test_readings_of_a_point_inherit_it(ratio: float) -> None:
    A = torch.from_numpy(one_negative(ratio))

    def loss(p: Tensor) -> Tensor:
        return p @ A @ p / 2

    risk = risk_of(loss, torch.zeros(len(A), dtype=F64))
    certificate = ls.certify(risk, max_parameters=100)
    assert certificate.kind == "strict saddle"
    reading = plateau_reading(risk)
    assert reading.descends
    assert reading.lowest_curvature == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize("size", [1, 3, 60, 200])
def test_a_small_matrix_of_any_ratio_is_counted_rightly(size: int) -> None:
    draws = np.random.default_rng(size)
    values = 10.0 ** draws.uniform(-6, 6, size) * draws.choice([-1, 1], size)
    counted = inertia(torch.from_numpy(rotated(values, size)))
    assert counted.negative <= (values < 0).sum()
    assert counted.positive <= (values > 0).sum()
