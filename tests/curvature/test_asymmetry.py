"""Products that are not those of a symmetric operator give no eigenvalue, and rounding does not look like them."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator
from tests.curvature.spectra import F64, rotated
from torch import Tensor

import liftscape as ls
from liftscape.curvature import block_curvature, eigenpairs, partial_inertia
from liftscape.risk import as_operator


def unseen(matrix: Tensor) -> LinearOperator:
    """Hide the entries, so that only products can tell."""
    return LinearOperator(matrix.shape, matvec=lambda v: matrix.numpy() @ v, dtype=np.float64)  # pyright: ignore[reportCallIssue]


def skew(size: int) -> Tensor:
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(1), dtype=F64)
    return (drawn - drawn.T) / torch.linalg.matrix_norm(drawn - drawn.T, 2)


@pytest.mark.parametrize("size", [20, 80, 300])
@pytest.mark.parametrize("share", [1.0, 1e-3, 1e-5])
def test_an_operator_without_symmetry_has_no_eigenvalues_here(size: int, share: float) -> None:
    A = rotated(torch.linspace(-4, 4, size)) + share * 4 * skew(size)
    found = eigenpairs(unseen(A), 2)
    assert found.status == {"smallest": "asymmetric", "largest": "asymmetric"}
    assert bool(found.values.isnan().all())
    assert not bool(found.converged.any())
    assert "lack symmetry by" in found.reason
    assert "(H + Hᵀ)/2" in found.advice
    # ‖A − Aᵀ‖ is twice the skew part, of which products with some vectors see no more in the Frobenius norm.
    said = float(found.reason.split("symmetry by ")[1].split()[0])
    assert 0.1 * share * 4 <= said <= 1.1 * float(torch.linalg.matrix_norm(A - A.T))
    counts = partial_inertia(unseen(A))
    assert not counts.complete
    assert "lack symmetry by" in counts.method


def test_a_matrix_of_normal_entries_is_refused_at_any_scale() -> None:
    for scale in (1e-100, 1.0, 1e100):
        A = scale * torch.randn(80, 80, generator=torch.Generator().manual_seed(0), dtype=F64)
        assert set(eigenpairs(unseen(A), 1).status.values()) == {"asymmetric"}


def test_asymmetry_within_what_is_asked_for_is_none() -> None:
    A = rotated(torch.linspace(-4, 4, 80)) + 4e-6 * skew(80)
    exact = torch.linalg.eigvalsh((A + A.T) / 2)
    found = eigenpairs(unseen(A), 1, tolerance=1e-4)
    assert set(found.status.values()) == {"converged"}
    assert bool(((found.values - exact[[0, -1]]).abs() <= found.residuals).all())
    assert set(eigenpairs(unseen(A), 1).status.values()) == {"asymmetric"}


@pytest.mark.parametrize("share", [0.0, 1e-3])
def test_a_small_layer_says_whether_it_is_symmetric(share: float) -> None:
    A = rotated(torch.linspace(-4, 4, 20)) + share * skew(20)
    row = block_curvature(as_operator(unseen(A)), "all")
    assert row.status == ("asymmetric" if share else "converged")


@pytest.mark.parametrize("trained", [0, 30])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_rounding_of_a_float32_network_is_none(activation: str, trained: int) -> None:
    x, y = ls.data.digits(torch.float32)
    model = ls.nets.mlp((64, 32, 10), activation, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(trained):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    H = ls.EmpiricalRisk(model, "cross_entropy", (x, y)).hessian()
    for budget in (None, 40 * H.size * 4):
        assert eigenpairs(H, 3, "largest", memory_budget=budget).status == {"largest": "converged"}
    assert "symmetry" not in partial_inertia(H, at_least=3).method
