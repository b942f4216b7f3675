"""Symmetric linear operators of one type, whatever computes the product."""

from abc import ABC, abstractmethod
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from liftscape.outcomes import LiftscapeError

__all__ = ["DenseOperator", "SymmetricOperator", "as_operator"]


class SymmetricOperator(ABC):
    """A symmetric M × M matrix known by its products H @ v with vectors (M,) and blocks (M, k)."""

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
        """Return H @ block.

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
        """Return H @ block where H is computed from numbers moved by rounding, which tells what rounding does to H.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns; those of H itself where it is not computed from others.
        """
        return self.multiply(block)

    @property
    @final
    def shape(self) -> tuple[int, int]:
        """(M, M)."""
        return self.size, self.size

    @final
    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Return H @ vectors for a vector (M,) or a block (M, k)."""
        if vectors.ndim not in {1, 2} or vectors.shape[0] != self.size:
            raise LiftscapeError(
                f"a product with an operator of shape {self.shape} needs a vector ({self.size},) or a block "
                f"({self.size}, k), but shape {tuple(vectors.shape)} was given."
            )
        block = vectors.to(dtype=self.dtype, device=self.device)
        return self.multiply(block) if vectors.ndim == 2 else self.multiply(block.unsqueeze(1)).squeeze(1)

    def to_dense(self) -> Float[Tensor, "M M"]:
        """Return the matrix, as computed: its asymmetry is a measure of rounding.

        Returns:
            H @ I.
        """
        return self.multiply(torch.eye(self.size, dtype=self.dtype, device=self.device))

    @final
    def to_scipy(self) -> LinearOperator:
        """Return the operator for SciPy, which works in NumPy arrays on the CPU.

        Returns:
            A LinearOperator of the same shape.
        """

        def product(array: np.ndarray) -> np.ndarray:
            return (self @ torch.from_numpy(np.ascontiguousarray(array))).cpu().numpy()

        dtype = torch.empty((), dtype=self.dtype).numpy().dtype
        return LinearOperator(self.shape, matvec=product, rmatvec=product, matmat=product, dtype=dtype)  # pyright: ignore[reportCallIssue]


@final
class DenseOperator(SymmetricOperator):
    """A symmetric matrix that is at hand.

    Example:
        >>> (DenseOperator(torch.eye(2)) @ torch.ones(2)).tolist()
        [1.0, 1.0]
    """

    def __init__(self, matrix: Float[Tensor, "M M"]) -> None:
        self._matrix = matrix

    @property
    def size(self) -> int:
        """The number M of rows."""
        return self._matrix.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """The matrix's dtype."""
        return self._matrix.dtype

    @property
    def device(self) -> torch.device:
        """The matrix's device."""
        return self._matrix.device

    def multiply(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return the matrix times the block.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns.
        """
        return self._matrix @ block

    def to_dense(self) -> Float[Tensor, "M M"]:
        """Return the matrix itself.

        Returns:
            The matrix.
        """
        return self._matrix


@final
class _ScipyOperator(SymmetricOperator):
    """A SciPy LinearOperator seen as one of ours."""

    def __init__(self, operator: LinearOperator) -> None:
        self._operator = operator

    @property
    def size(self) -> int:
        """The number M of rows."""
        return int(self._operator.shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """float64, in which SciPy's products are taken over."""
        return torch.float64

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def multiply(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return SciPy's product.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns.
        """
        return torch.as_tensor(np.asarray(self._operator.matmat(block.numpy())), dtype=self.dtype)


def as_operator(H: "SymmetricOperator | LinearOperator | Tensor | np.ndarray") -> SymmetricOperator:
    """Take any symmetric operator: ours, a SciPy LinearOperator or a matrix.

    Args:
        H: the operator, or a matrix (M, M).

    Returns:
        The same operator as a :class:`SymmetricOperator`.

    Raises:
        LiftscapeError: if it is no operator, not square, or a matrix that is not real and symmetric to rounding.

    Example:
        >>> as_operator(np.eye(3)).shape
        (3, 3)
    """
    if isinstance(H, SymmetricOperator):
        return H
    if issparse(H) or not isinstance(H, (LinearOperator, Tensor, np.ndarray)):
        raise LiftscapeError(
            "a symmetric operator is one of liftscape's, a SciPy LinearOperator or a dense matrix, but "
            f"{type(H).__name__} was given; give risk.hessian() of a risk, or aslinearoperator of a sparse one."
        )
    if len(H.shape) != 2 or H.shape[0] != H.shape[1]:
        raise LiftscapeError(f"a symmetric operator must be square, but shape {tuple(H.shape)} was given.")
    if isinstance(H, LinearOperator):
        return _ScipyOperator(H)
    matrix = torch.as_tensor(H)
    if not matrix.is_floating_point():
        raise LiftscapeError(f"a symmetric operator needs real floating-point entries, but {matrix.dtype} was given.")
    asymmetry, norm = float(torch.linalg.matrix_norm(matrix - matrix.T)), float(torch.linalg.matrix_norm(matrix))
    if asymmetry > norm * torch.finfo(matrix.dtype).eps ** 0.5:
        raise LiftscapeError(
            f"the matrix of shape {tuple(matrix.shape)} is not symmetric, ‖H − Hᵀ‖/‖H‖ = {asymmetry / norm:.1e}; give "
            "(H + Hᵀ)/2 if that is meant."
        )
    return DenseOperator(matrix)
