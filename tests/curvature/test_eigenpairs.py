"""Extreme eigenpairs against constructed spectra: order, multiplicity, signs, bounds, and honest failures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh
from tests.curvature.spectra import F64, rotated
from torch import Tensor

import liftscape as ls
from liftscape.curvature import SymmetricOperator, eigenpairs, most_negative_eigenpair


def check_bounds(A: Tensor, found: ls.curvature.Eigenpairs) -> None:
    """Every value has an eigenvalue of A within its residual, and the residual is that of its unit vector."""
    exact = torch.linalg.eigvalsh(A)
    scale = 1e-13 * float(exact.abs().max())
    for index, value in enumerate(found.values):
        vector = found.vectors[:, index]
        assert float((exact - value).abs().min()) <= float(found.residuals[index]) + scale
        assert float((A @ vector - value * vector).norm()) <= float(found.residuals[index]) + scale
        assert float(vector.norm()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("negative", [1, 100])
def test_negative_eigenvalues_of_a_thousand_are_found_and_proved(negative: int) -> None:
    A = rotated([-0.5] * negative + torch.linspace(0.01, 10, 1000 - negative).tolist())
    found = most_negative_eigenpair(A)
    assert found.status["smallest"] == "converged"
    assert float(found.values[0]) == pytest.approx(-0.5, abs=1e-8)
    assert float(found.values[0] + found.residuals[0]) < 0
    check_bounds(A, found)


def test_a_tenfold_eigenvalue_is_reported_tenfold() -> None:
    A = rotated([3.0] * 10 + torch.linspace(-1, 2, 390).tolist())
    found = eigenpairs(A, 12, which="largest")
    assert found.status["largest"] == "converged"
    exact = torch.linalg.eigvalsh(A).flip(0)[:12]
    torch.testing.assert_close(found.largest, exact, rtol=0, atol=1e-8)
    assert int((found.largest > 2.99).sum()) == 10
    check_bounds(A, found)


def test_an_indefinite_spectrum_is_ordered_rightly_at_both_ends() -> None:
    A = rotated(torch.linspace(-24, 24, 500))
    found = eigenpairs(A, 5, which="both")
    exact = torch.linalg.eigvalsh(A)
    torch.testing.assert_close(found.smallest, exact[:5], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.largest, exact.flip(0)[:5], rtol=1e-9, atol=1e-9)
    assert found.values.tolist() == sorted(found.values.tolist())
    check_bounds(A, found)


@given(
    seed=st.integers(0, 10**6),
    spread=st.lists(st.sampled_from([-7.0, -1.0, -1.0, 0.0, 0.0, 1e-3, 2.0, 2.0, 50.0]), min_size=60, max_size=110),
    k=st.integers(1, 8),
    which=st.sampled_from(["smallest", "largest", "both"]),
)
@settings(max_examples=60)
def test_clusters_and_zeros_come_with_their_multiplicity(seed: int, spread: list[float], k: int, which: str) -> None:
    A = rotated(spread, seed)
    found = eigenpairs(A, k, which=which, tolerance=1e-9, generator=torch.Generator().manual_seed(seed))
    exact = torch.tensor(sorted(spread), dtype=F64)
    assert set(found.status.values()) == {"converged"}
    if which != "largest":
        torch.testing.assert_close(found.smallest, exact[:k], rtol=0, atol=1e-6)
    if which != "smallest":
        torch.testing.assert_close(found.largest, exact.flip(0)[:k], rtol=0, atol=1e-6)
    # No ghosts: vectors of equal values are different directions.
    torch.testing.assert_close(
        found.vectors.T @ found.vectors, torch.eye(len(found.values), dtype=F64), rtol=0, atol=1e-9
    )
    check_bounds(A, found)


def test_restarts_within_a_small_memory_find_the_same() -> None:
    A = rotated(torch.cat([torch.linspace(0, 1, 700), torch.tensor([5.0, 6.0, 7.0])]))
    row = len(A) * 8
    found = eigenpairs(A, 3, which="largest", memory_budget=24 * row)
    torch.testing.assert_close(found.largest, torch.tensor([7.0, 6.0, 5.0], dtype=F64), rtol=0, atol=1e-8)
    assert "24 stored vectors" in found.method


def test_an_end_that_has_not_converged_gets_a_status_and_no_number() -> None:
    A = rotated(torch.linspace(-1, 1, 600))
    found = eigenpairs(A, 3, which="smallest", max_products=12)
    assert found.status == {"smallest": "not converged"}
    assert bool(found.values[~found.converged].isnan().all())
    assert bool(found.residuals[~found.converged].isinf().all())
    assert not bool(found.converged.all())
    assert found.products <= 12
    assert found.advice


def test_the_same_seed_gives_the_same_bytes() -> None:
    A = rotated(torch.linspace(-3, 9, 300))
    first, second = (eigenpairs(A, 2, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert torch.equal(first.vectors, second.vectors)


@pytest.mark.parametrize("eigenvalues", [[2.0], [0.0], [-1.0, 1.0], [0.0] * 200, [4.0] * 150])
def test_trivial_operators(eigenvalues: list[float]) -> None:
    A = rotated(eigenvalues)
    found = eigenpairs(A, 1, which="largest")
    assert found.status["largest"] == "converged"
    assert float(found.values[0]) == pytest.approx(max(eigenvalues), abs=1e-10)


def test_float32_operators_and_those_of_scipy() -> None:
    A = rotated(torch.cat([torch.linspace(0, 1, 300), torch.tensor([-2.0, 9.0])]))
    low = eigenpairs(A.float(), 1, tolerance=1e-5)
    assert low.vectors.dtype == torch.float32
    torch.testing.assert_close(low.values, torch.tensor([-2.0, 9.0], dtype=F64), rtol=1e-4, atol=1e-4)
    assert bool(((low.values - torch.tensor([-2.0, 9.0])).abs() <= low.residuals + 1e-5).all())
    wrapped = LinearOperator(A.shape, matvec=lambda v: A.numpy() @ v, dtype=np.float64)
    torch.testing.assert_close(
        eigenpairs(wrapped, 1).values, torch.tensor([-2.0, 9.0], dtype=F64), rtol=1e-9, atol=1e-9
    )


class NotFinite(SymmetricOperator):
    """An operator whose products are NaN from some point on."""

    size, dtype, device = 200, F64, torch.device("cpu")

    def __init__(self, good: int) -> None:
        self.left = good

    def multiply(self, block: Tensor) -> Tensor:
        """Return the block, or NaN once the good products are spent."""
        self.left -= 1
        return block.clone() if self.left >= 0 else torch.full_like(block, torch.nan)


@pytest.mark.parametrize("good", [0, 3])
def test_products_that_are_not_finite_give_no_number(good: int) -> None:
    A = rotated(torch.linspace(-1, 1, 200))

    class Broken(NotFinite):
        def multiply(self, block: Tensor) -> Tensor:
            return super().multiply(A @ block)

    with pytest.raises(ls.LiftscapeError, match="not finite"):
        eigenpairs(Broken(good), 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"k": 5}, r"5 eigenpairs at 2 end\(s\) were asked for, but an operator of shape \(4, 4\) has 4 in all"),
        ({"k": 0}, r"choose k between 1 and 2"),
        (
            {"k": 1, "memory_budget": 31},
            r"stored vectors of 32 bytes.*memory_budget is 31: not even one at each end would",
        ),
        ({"k": 1, "which": "largest", "memory_budget": 31}, r"memory_budget is 31: not even one would fit"),
    ],
)
def test_misuse_is_refused_in_one_sentence(options: dict, sentence: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence):
        eigenpairs(torch.eye(4, dtype=F64), **options)


def test_the_advice_of_a_refusal_can_be_followed() -> None:
    A = rotated(torch.linspace(-1, 1, 60))
    with pytest.raises(ls.LiftscapeError, match=r"14,400: 5 at each end would fit"):
        eigenpairs(A, 10, memory_budget=14400)
    assert set(eigenpairs(A, 5, memory_budget=14400).status.values()) == {"converged"}
    with pytest.raises(ls.LiftscapeError, match=r"has 1 in all; ask for one end, with k = 1"):
        eigenpairs(torch.eye(1, dtype=F64), 1)
    assert eigenpairs(torch.eye(1, dtype=F64), 1, which="largest").values.tolist() == [1.0]
    with pytest.raises(ls.LiftscapeError, match=r"has 0 in all; give one with parameters"):
        eigenpairs(torch.zeros(0, 0, dtype=F64), 1)


def test_the_reason_says_what_was_done() -> None:
    wide = rotated(torch.linspace(-1, 1, 500))
    assert most_negative_eigenpair(wide).reason == (
        "The value converged, and any value beyond it has a part in the random start and would have been seen."
    )
    assert eigenpairs(wide, 3).reason.startswith("All 6 values converged, and a sweep from a fresh random block found")
    assert eigenpairs(rotated(torch.linspace(-1, 1, 62)), 10).reason.endswith("the whole space was searched.")


@pytest.fixture(scope="module")
def digits_risk() -> ls.EmpiricalRisk:
    """A digits MLP after some training, in float64."""
    x, y = ls.data.digits(F64)
    model = ls.nets.mlp((64, 128, 128, 10), "tanh", dtype=F64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return ls.EmpiricalRisk(model, "cross_entropy", (x, y))


def test_the_digits_network_agrees_with_arpack(digits_risk: ls.EmpiricalRisk) -> None:
    H = digits_risk.hessian()
    top, bottom = eigenpairs(H, 10, which="largest", tolerance=1e-7), eigenpairs(H, 3, which="smallest", tolerance=1e-7)
    for found, which in ((top, "LA"), (bottom, "SA")):
        exact, vectors = eigsh(H.to_scipy(), k=len(found.values), which=which, tol=0, ncv=60, v0=np.ones(H.size))
        assert np.abs(H.to_scipy() @ vectors - vectors * exact).max() < 1e-10
        np.testing.assert_allclose(found.values.numpy(), np.sort(exact), rtol=1e-6)
        assert bool((torch.from_numpy(np.sort(exact)) - found.values).abs().le(found.residuals + 1e-12).all())
        residuals = (H @ found.vectors - found.vectors * found.values).norm(dim=0)
        assert bool((residuals <= found.residuals + 1e-12).all())
