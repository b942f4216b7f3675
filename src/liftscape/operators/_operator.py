"""Linear operators of one type, whatever computes the product; sums, multiples and products of them are operators."""

from abc import ABC, abstractmethod
from typing import Any, final, overload

import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from liftscape.operators._operands import MatrixProducts, PartsOfExpression, Rule, as_scipy, matrix_of, real_number
from liftscape.outcomes import LiftscapeError

__all__ = ["Operator", "SymmetricOperator"]


class Operator(ABC):
    """An M × M matrix A known by its products A @ v with vectors (M,) and blocks (M, k).

    ``A + B``, ``A - B``, ``c * A``, ``A / c`` and ``A @ B`` are operators that take the products of A and B; a sum of
    multiples of symmetric ones is symmetric.
    """

    # NumPy leaves c * A and matrix + A to this class instead of taking the operator for an array's entry.
    __array_ufunc__ = None

    @property
    @abstractmethod
    def size(self) -> int:
        """The number M of rows."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The dtype of the products."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of the products."""

    @abstractmethod
    def multiply(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return A @ block.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns.
        """

    @abstractmethod
    def multiply_transposed(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return Aᵀ @ block.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns.
        """

    def prepare(self) -> None:  # ruff: ignore[empty-method-without-abstract-decorator]
        """Say that several products follow, so that what they share can be kept from the first one on."""

    def verify(self) -> None:  # ruff: ignore[empty-method-without-abstract-decorator]
        """Raise if products are not with the matrix that they are said to be; nothing is known of most operators."""

    def multiply_nudged(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return A @ block where A is computed from numbers moved by rounding, which tells what rounding does to A.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns; those of A itself where it is not computed from others.
        """
        return self.multiply(block)

    @property
    @final
    def shape(self) -> tuple[int, int]:
        """(M, M)."""
        return self.size, self.size

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, other: "Operator") -> "Operator": ...
    @final
    def __matmul__(self, other: "Tensor | Operator") -> "Tensor | Operator":
        """Return A @ v for a vector (M,) or a block (M, k), or the composition with another operator."""
        if isinstance(other, Operator):
            B = _fitting(self, other)
            forth = lambda product, block: product(self, product(B, block))
            back = lambda product, block: product(B, product(self, block))
            return _Expression((self, B), forth, back)
        if not isinstance(other, Tensor):
            return NotImplemented
        if other.ndim not in {1, 2} or other.shape[0] != self.size:
            raise LiftscapeError(
                f"a product with an operator of shape {self.shape} needs a vector ({self.size},) or a block "
                f"({self.size}, k), but shape {tuple(other.shape)} was given."
            )
        block = other.to(dtype=self.dtype, device=self.device)
        return self.multiply(block) if other.ndim == 2 else self.multiply(block.unsqueeze(1)).squeeze(1)

    def to_dense(self) -> Float[Tensor, "M M"]:
        """Return the matrix, as computed: the asymmetry of a symmetric one is a measure of rounding.

        Returns:
            A @ I.
        """
        return self.multiply(torch.eye(self.size, dtype=self.dtype, device=self.device))

    @final
    def to_scipy(self) -> LinearOperator:
        """Return the operator for SciPy, which works in NumPy arrays on the CPU.

        Returns:
            A LinearOperator of the same shape.
        """
        return as_scipy(self)

    @overload
    def __add__(self: "SymmetricOperator", other: "SymmetricOperator") -> "SymmetricOperator": ...
    @overload
    def __add__(self, other: Any) -> "Operator": ...
    def __add__(self, other: Any) -> "Operator":
        """Return A + B for an operator or a matrix B of the same shape."""
        return _sum(self, other, 1.0)

    def __radd__(self, other: Any) -> "Operator":
        """Return B + A for a matrix B."""
        return self + other

    @overload
    def __sub__(self: "SymmetricOperator", other: "SymmetricOperator") -> "SymmetricOperator": ...
    @overload
    def __sub__(self, other: Any) -> "Operator": ...
    def __sub__(self, other: Any) -> "Operator":
        """Return A − B for an operator or a matrix B of the same shape."""
        return _sum(self, other, -1.0)

    def __rsub__(self, other: Any) -> "Operator":
        """Return B − A for a matrix B."""
        return -(self - other)

    @overload
    def __mul__(self: "SymmetricOperator", factor: Any) -> "SymmetricOperator": ...
    @overload
    def __mul__(self, factor: Any) -> "Operator": ...
    def __mul__(self, factor: Any) -> "Operator":
        """Return c·A for a real number c."""
        c = real_number(factor)
        return NotImplemented if c is None else _expression((self,), lambda product, block: c * product(self, block))

    __rmul__ = __mul__

    @overload
    def __truediv__(self: "SymmetricOperator", factor: Any) -> "SymmetricOperator": ...
    @overload
    def __truediv__(self, factor: Any) -> "Operator": ...
    def __truediv__(self, factor: Any) -> "Operator":
        """Return A/c for a real number c ≠ 0."""
        c = real_number(factor)
        return NotImplemented if c is None else self * (1 / c)

    @overload
    def __neg__(self: "SymmetricOperator") -> "SymmetricOperator": ...
    @overload
    def __neg__(self) -> "Operator": ...
    def __neg__(self) -> "Operator":
        """Return −A."""
        return self * -1.0


class SymmetricOperator(Operator):
    """A symmetric M × M matrix known by its products H @ v with vectors (M,) and blocks (M, k)."""

    @final
    def multiply_transposed(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return H @ block, since Hᵀ = H.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns.
        """
        return self.multiply(block)


@final
class _Expression(PartsOfExpression, Operator):
    """A sum or multiple of which a part is not symmetric, or a product."""

    def multiply_transposed(self, block: Tensor) -> Tensor:
        return self.transposed(lambda part, columns: part.multiply_transposed(columns), block)


@final
class _SymmetricExpression(PartsOfExpression, SymmetricOperator):
    """A sum or multiple of symmetric operators."""


@final
class _Matrix(MatrixProducts, Operator):
    """A matrix that is not symmetric."""

    def multiply_transposed(self, block: Tensor) -> Tensor:
        return self.matrix.T @ block


@final
class _SymmetricMatrix(MatrixProducts, SymmetricOperator):
    """A matrix that is symmetric to the last digit."""


def _expression(parts: tuple[Operator, ...], rule: Rule) -> Operator:
    """Return a sum or multiple, whose transpose is that of its parts, so that it is symmetric if they are."""
    symmetric = all(isinstance(part, SymmetricOperator) for part in parts)
    return (_SymmetricExpression if symmetric else _Expression)(parts, rule, rule)


def _sum(A: Operator, other: Any, sign: float) -> Operator:
    """Return A ± B."""
    if not isinstance(other, Operator):
        matrix = matrix_of(other, A)
        other = (_SymmetricMatrix if torch.equal(matrix, matrix.T) else _Matrix)(matrix)
    B = _fitting(A, other)
    return _expression((A, B), lambda product, block: product(A, block) + sign * product(B, block))


def _fitting(A: Operator, B: Operator) -> Operator:
    """Return B, or raise if it does not fit A."""
    if (A.shape, A.dtype, A.device) != (B.shape, B.dtype, B.device):
        raise LiftscapeError(
            f"operators are added and multiplied that agree in shape, dtype and device, but {A.shape}, {A.dtype} on "
            f"{A.device} and {B.shape}, {B.dtype} on {B.device} were given."
        )
    return B
