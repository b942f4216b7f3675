"""Sums, multiples and products of operators are what the same expressions of dense matrices are."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator
from torch import Tensor, nn

import liftscape as ls
from liftscape.operators import DenseOperator, IdentityOperator, Operator, SymmetricOperator, as_operator

F64 = torch.float64


def symmetric(size: int, seed: int, dtype: torch.dtype = F64) -> Tensor:
    A = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return A + A.T


LAWS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "twice": lambda H, G, E: 2 * H,
    "times": lambda H, G, E: H * np.float64(-0.5),
    "tensor times": lambda H, G, E: torch.tensor(3.0, dtype=F64) * H,
    "over": lambda H, G, E: H / 4,
    "minus": lambda H, G, E: -H,
    "sum": lambda H, G, E: H + G,
    "difference": lambda H, G, E: 2 * H - G,
    "shift": lambda H, G, E: H + 0.1 * E,
    "shift back": lambda H, G, E: 0.3 * E - (H - E),
    "product": lambda H, G, E: H @ G,
    "product of sums": lambda H, G, E: (H + G) @ (H - 2 * E) @ G,
    "sum of products": lambda H, G, E: H @ G + 0.5 * (G @ H) - E,
}
SYMMETRIC = {"twice", "times", "tensor times", "over", "minus", "sum", "difference", "shift", "shift back"}


@pytest.mark.parametrize("law", LAWS)
@given(size=st.integers(1, 6), seed=st.integers(0, 2**16))
def test_expressions_are_those_of_the_matrices(law: str, size: int, seed: int) -> None:
    A, B = symmetric(size, seed), symmetric(size, seed + 1)
    H, G = DenseOperator(A), DenseOperator(B)
    made, expected = LAWS[law](H, G, IdentityOperator.like(H)), LAWS[law](A, B, torch.eye(size, dtype=F64))
    v, V = torch.randn(size, dtype=F64), torch.randn(size, 3, dtype=F64)
    close = lambda ours, theirs: torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-10)
    close(made.to_dense(), expected)
    close(made @ v, expected @ v)
    close(made @ V, expected @ V)
    close(made.multiply_transposed(V), expected.T @ V)
    close(torch.from_numpy(made.to_scipy() @ V.numpy()), expected @ V)
    close(torch.from_numpy(made.to_scipy().T @ V.numpy()), expected.T @ V)
    assert isinstance(made, SymmetricOperator) == (law in SYMMETRIC)


@pytest.mark.parametrize("law", ["twice", "minus", "sum", "difference", "shift", "product", "sum of products"])
def test_scipy_s_operators_obey_the_same_laws(law: str) -> None:
    A, B, E, ones = symmetric(4, 0), symmetric(4, 1), torch.eye(4, dtype=F64), torch.ones(4, dtype=F64)
    made = LAWS[law](as_operator(A), as_operator(B), IdentityOperator(4)) @ ones
    expected = LAWS[law](*(aslinearoperator(M.numpy()) for M in (A, B, E))) @ ones.numpy()
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("convert", [lambda A: A, lambda A: A.numpy()], ids=["tensor", "array"])
def test_a_matrix_can_be_added_from_either_side(convert: Callable[[Tensor], Any]) -> None:
    A, B = symmetric(3, 0), torch.arange(9, dtype=F64).reshape(3, 3)
    H = DenseOperator(A)
    for made, expected in ((H + convert(B), A + B), (convert(B) + H, A + B), (convert(B) - H, B - A)):
        assert torch.equal(made.to_dense(), expected)
        torch.testing.assert_close(made.multiply_transposed(A), expected.T @ A)
        assert not isinstance(made, SymmetricOperator)
    shifted = H + convert(0.1 * torch.eye(3, dtype=F64))
    assert isinstance(shifted, SymmetricOperator)


def test_a_shifted_hessian_has_shifted_eigenvalues() -> None:
    x = torch.linspace(-1, 1, 9, dtype=F64)[:, None]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)).to(F64)
    H = ls.EmpiricalRisk(model, "mse", (x, x**2)).hessian()
    exact = torch.linalg.eigvalsh(H.to_dense())
    found = ls.curvature.eigenpairs(2 * H + 0.1 * IdentityOperator.like(H), 2, which="largest")
    torch.testing.assert_close(found.values.sort().values, 2 * exact[-2:] + 0.1)
    assert ls.curvature.inertia(H - (float(exact[4]) - 1e-3) * IdentityOperator.like(H)).negative == 4
    gap = (H + H).multiply_nudged(torch.eye(H.size, dtype=F64)) - 2 * H.to_dense()
    assert 0 < float(gap.abs().max()) < 1e-12


class Counted(SymmetricOperator):
    """Notes what is asked of it."""

    size, dtype, device = 2, F64, torch.device("cpu")

    def __init__(self) -> None:
        self.asked: list[str] = []

    def multiply(self, block: Tensor) -> Tensor:
        self.asked.append("multiply")
        return block

    def prepare(self) -> None:
        self.asked.append("prepare")

    def verify(self) -> None:
        self.asked.append("verify")


def test_parts_are_prepared_verified_and_multiplied_once_each() -> None:
    H, G = Counted(), Counted()
    made = H @ G + 2 * DenseOperator(torch.eye(2, dtype=F64))
    made.prepare()
    made.verify()
    made @ torch.ones(2, dtype=F64)
    assert H.asked == G.asked == ["prepare", "verify", "multiply"]


def refused(act: Callable[[Operator], object]) -> str:
    with pytest.raises(ls.LiftscapeError) as error:
        act(DenseOperator(torch.eye(2, dtype=F64)))
    return str(error.value)


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    assert "is not linear; add 0.1 * IdentityOperator.like(H)" in refused(lambda H: H + 0.1)
    assert "(3, 3)" in refused(lambda H: H + DenseOperator(torch.eye(3, dtype=F64)))
    assert "torch.float32" in refused(lambda H: H @ DenseOperator(torch.eye(2)))
    assert "shape (3, 3) cannot be added" in refused(lambda H: H + torch.eye(3))
    assert "through as_operator" in refused(lambda H: H - "matrix")
    assert "complex" in refused(lambda H: H + torch.eye(2, dtype=torch.complex128))
    assert "no finite products" in refused(lambda H: math.nan * H)
    assert "may have no symmetry" in refused(lambda H: ls.curvature.eigenpairs(H @ H, 1))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("factor", ["2", None, [2.0], True, 1j, torch.ones(2)])
def test_only_real_numbers_scale(factor: Any) -> None:
    H = DenseOperator(torch.eye(2, dtype=F64))
    with pytest.raises(TypeError):
        H * factor
    with pytest.raises(TypeError):
        factor * H
