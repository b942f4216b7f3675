"""Products of an operator that is not symmetric give no converged value, and those of a rounded network do."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator
from tests.curvature.spectra import F64, rotated
from torch import Tensor, nn

import liftscape as ls
from liftscape.curvature import block_curvature, eigenpairs, partial_inertia
from liftscape.operators import as_operator


def unseen(matrix: Tensor) -> LinearOperator:
    """Hide the entries, so that only products can tell."""
    return LinearOperator(matrix.shape, matvec=lambda v: matrix.numpy() @ v, dtype=np.float64)  # pyright: ignore[reportCallIssue]


def skew(size: int) -> Tensor:
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(1), dtype=F64)
    return (drawn - drawn.T) / torch.linalg.matrix_norm(drawn - drawn.T, 2)


@pytest.mark.parametrize("size", [20, 80, 300])
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_an_operator_without_symmetry_has_no_converged_eigenvalue(size: int, share: float) -> None:
    A = rotated(torch.linspace(-4, 4, size)) + share * 4 * skew(size)
    found = eigenpairs(unseen(A), 2)
    assert found.status == {"smallest": "asymmetric", "largest": "asymmetric"}
    assert not bool(found.converged.any())
    assert "lack symmetry by" in found.reason
    assert "(H + Hᵀ)/2" in found.advice
    # Values of vectors that are no eigenvectors are told as such: the bounds of those there are hold for the products.
    kept = ~found.values.isnan()
    off = torch.linalg.vector_norm(A @ found.vectors - found.vectors * found.values, dim=0)
    assert bool((off <= found.residuals)[kept].all())
    assert bool(found.residuals[~kept].isinf().all())
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


@pytest.mark.parametrize("size", [20, 80])
@pytest.mark.parametrize(("share", "tolerance", "told"), [(1e-6, 1e-3, False), (1e-6, 1e-8, True), (1e-4, 1e-6, True)])
def test_asymmetry_such_as_rounding_leaves_is_in_the_bounds(
    size: int, share: float, tolerance: float, told: bool
) -> None:
    A = rotated(torch.linspace(-4, 4, size)) + 4 * share * skew(size)
    exact = torch.linalg.eigvalsh((A + A.T) / 2)
    found = eigenpairs(unseen(A), 1, tolerance=tolerance)
    assert set(found.status.values()) == {"converged"}
    assert bool(((found.values - exact[[0, -1]]).abs() <= found.residuals).all())
    assert ("lack symmetry by" in found.reason) == told


def test_values_of_a_badly_scaled_float32_network_are_kept_with_their_bounds() -> None:
    torch.manual_seed(0)
    head = nn.Linear(10, 40), nn.BatchNorm1d(40), nn.Tanh()
    model = nn.Sequential(*head, nn.Linear(40, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Linear(30, 1))
    x, y = torch.rand(60, 10) + 300, torch.randn(60, 1)
    H = ls.EmpiricalRisk(model, "mse", (x, y)).hessian()
    found = eigenpairs(H, 2)
    off = torch.linalg.vector_norm((H @ found.vectors).double() - found.vectors.double() * found.values, dim=0)
    assert set(found.status.values()) == {"converged"}
    assert "lack symmetry by" in found.reason
    assert "float64" in found.advice
    assert bool((off <= found.residuals).all())
    exact = torch.linalg.eigvalsh(
        ls.EmpiricalRisk(model.double(), "mse", (x.double(), y.double())).hessian().to_dense()
    )
    # A bound that says nothing would hold as well.
    assert float((found.values - exact[[0, 1, -2, -1]]).abs().max()) < 2e-3 * float(exact[-1])
    assert float(found.residuals.max()) < 2e-3 * float(exact[-1])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_small_layer_says_whether_it_is_symmetric(share: float) -> None:
    A = rotated(torch.linspace(-4, 4, 20)) + share * skew(20)
    row = block_curvature(as_operator(unseen(A)), name="all")
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
        assert eigenpairs(H, 3, which="largest", memory_budget=budget).status == {"largest": "converged"}
    assert "symmetry" not in partial_inertia(H, at_least=3).method
