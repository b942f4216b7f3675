"""Matrices at hand, the identity and SciPy's operators as operators of liftscape's type."""

from typing import final

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from liftscape.operators._operator import Operator, SymmetricOperator
from liftscape.outcomes import LiftscapeError

__all__ = ["DenseOperator", "IdentityOperator", "as_operator"]


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
class IdentityOperator(SymmetricOperator):
    """The identity I, with which an operator is shifted: H + 0.1 * I.

    Args:
        size: the number M of rows.
        dtype: of the products.
        device: of the products.

    Example:
        >>> H = DenseOperator(torch.ones(2, 2))
        >>> (H + 0.5 * IdentityOperator.like(H)).to_dense().tolist()
        [[1.5, 1.0], [1.0, 1.5]]
    """

    def __init__(self, size: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> None:
        self._size, self._dtype, self._device = size, dtype, torch.device(device)

    @classmethod
    def like(cls, H: SymmetricOperator) -> "IdentityOperator":
        """Return the identity of the size, dtype and device of an operator.

        Args:
            H: the operator.

        Returns:
            I.
        """
        return cls(H.size, H.dtype, H.device)

    @property
    def size(self) -> int:
        """The number M of rows."""
        return self._size

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the products."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """The device of the products."""
        return self._device

    def multiply(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return the block itself.

        Args:
            block: k vectors as columns.

        Returns:
            The same numbers.
        """
        return block.clone()


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
    if isinstance(H, Operator):
        raise LiftscapeError(
            "an operator made of products, or with a matrix that is not symmetric, may have no symmetry; give a sum of "
            "multiples of symmetric ones."
        )
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
