"""What operators are added to, multiplied with and handed to: numbers, matrices, SciPy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from liftscape.outcomes import LiftscapeError

__all__ = ["MatrixProducts", "PartsOfExpression", "Rule", "as_scipy", "matrix_of", "real_number"]

# How one part is multiplied (plainly, transposed or nudged), and what the whole makes of that.
Product = Callable[[Any, Tensor], Tensor]
Rule = Callable[[Product, Tensor], Tensor]


class PartsOfExpression:
    """What an expression of operators takes over from its parts, as a mixin of operators."""

    def __init__(self, parts: tuple[Any, ...], rule: Rule, transposed: Rule) -> None:
        self._parts, self._rule, self.transposed = parts, rule, transposed

    size = property(lambda self: self._parts[0].size)
    dtype = property(lambda self: self._parts[0].dtype)
    device = property(lambda self: self._parts[0].device)

    def multiply(self, block: Tensor) -> Tensor:
        """Return the expression times a block of columns."""
        return self._rule(lambda part, columns: part.multiply(columns), block)

    def multiply_nudged(self, block: Tensor) -> Tensor:
        """Return the same, with parts that are computed from numbers moved by rounding."""
        return self._rule(lambda part, columns: part.multiply_nudged(columns), block)

    def prepare(self) -> None:
        """Prepare the parts for several products."""
        for part in self._parts:
            part.prepare()

    def verify(self) -> None:
        """Verify the parts."""
        for part in self._parts:
            part.verify()


class MatrixProducts:
    """A matrix at hand, as a mixin of operators."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    size = property(lambda self: self.matrix.shape[0])
    dtype = property(lambda self: self.matrix.dtype)
    device = property(lambda self: self.matrix.device)

    def multiply(self, block: Tensor) -> Tensor:
        """Return the matrix times a block of columns."""
        return self.matrix @ block


def real_number(factor: Any) -> float | None:
    """Return a factor as a number, or None if an operator cannot be multiplied with it.

    Args:
        factor: what stands beside the operator.

    Returns:
        The number.

    Raises:
        LiftscapeError: if it is NaN or infinite.
    """
    if isinstance(factor, (Tensor, np.ndarray)) and factor.ndim == 0:
        factor = factor.item()
    if not isinstance(factor, (int, float, np.integer, np.floating)) or isinstance(factor, bool):
        return None
    if not math.isfinite(factor):
        raise LiftscapeError(f"an operator times {factor} has no finite products; give a finite number.")
    return float(factor)


def matrix_of(given: Any, like: Any) -> Tensor:
    """Return a matrix that is added to an operator.

    Args:
        given: a tensor or an array (M, M).
        like: the operator.

    Returns:
        The matrix, in the operator's dtype and on its device.

    Raises:
        LiftscapeError: if it is neither, or complex.
    """
    if real_number(given) is not None:
        raise LiftscapeError(f"a matrix plus the number {given} is not linear; add {given} * IdentityOperator.like(H).")
    if not isinstance(given, (Tensor, np.ndarray)) or given.ndim != 2:
        raise LiftscapeError(
            f"an operator of shape {like.shape} is added to an operator or a matrix, but {type(given).__name__} was "
            "given; take a SciPy LinearOperator through as_operator."
        )
    if tuple(given.shape) != like.shape:
        raise LiftscapeError(f"a matrix of shape {tuple(given.shape)} cannot be added to an operator of {like.shape}.")
    matrix = torch.as_tensor(given)
    if matrix.is_complex():
        raise LiftscapeError(f"an operator has real entries, but a matrix of {matrix.dtype} was given.")
    return matrix.to(dtype=like.dtype, device=like.device)


def as_scipy(A: Any) -> LinearOperator:
    """Return an operator for SciPy, which works in NumPy arrays on the CPU.

    Args:
        A: the operator.

    Returns:
        A LinearOperator of the same shape.
    """

    def over(multiply: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
        def product(array: np.ndarray) -> np.ndarray:
            columns = torch.from_numpy(np.ascontiguousarray(array)).to(dtype=A.dtype, device=A.device)
            return multiply(columns.reshape(A.size, -1)).cpu().numpy().reshape(array.shape)

        return product

    forth, back = over(A.multiply), over(A.multiply_transposed)
    dtype = torch.empty((), dtype=A.dtype).numpy().dtype
    return LinearOperator(A.shape, matvec=forth, rmatvec=back, matmat=forth, rmatmat=back, dtype=dtype)  # pyright: ignore[reportCallIssue]
