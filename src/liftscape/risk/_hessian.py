"""Hessian-vector products by double backward.

Double backward is used because jvp(jacrev) is silently wrong through LayerNorm and training-mode BatchNorm.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.risk._operator import SymmetricOperator

__all__ = ["Hessian", "flatten", "gradient_of", "unflatten"]

# Columns that one vectorised backward pass takes at once: more would not be faster on two cores, only larger.
_COLUMNS = 64


def flatten(params: Mapping[str, Tensor]) -> Float[Tensor, " M"]:
    """Return the tensors as one vector, in the mapping's order.

    Args:
        params: tensors by name.

    Returns:
        The vector (M,).
    """
    return torch.cat([tensor.reshape(-1) for tensor in params.values()])


def unflatten(vector: Float[Tensor, " M"], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the vector as tensors with the names and shapes of another mapping.

    Args:
        vector: (M,).
        like: tensors by name with M entries in all.

    Returns:
        Views of the vector by name.
    """
    parts = vector.split([tensor.numel() for tensor in like.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(like.items(), parts, strict=True)}


def gradient_of(value: Tensor, leaves: list[Tensor], create_graph: bool = False) -> Float[Tensor, " M"]:
    """Return ∇value as one vector, zero where a leaf does not take part.

    Args:
        value: a scalar.
        leaves: the tensors to differentiate with respect to.
        create_graph: whether the gradient itself will be differentiated.

    Returns:
        The vector (M,).
    """
    if not value.requires_grad:
        return torch.cat([torch.zeros_like(leaf).reshape(-1) for leaf in leaves])
    parts = torch.autograd.grad(value, leaves, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in parts])


@final
class Hessian(SymmetricOperator):
    """∇²R at θ as an operator: products by double backward, summed over weighted batches.

    Args:
        terms: a callable of θ (by name) that yields the weighted terms whose sum is R, batch by batch.
        params: θ by name.
    """

    def __init__(self, terms: Callable[[dict[str, Tensor]], Iterator[Tensor]], params: Mapping[str, Tensor]) -> None:
        self._terms = terms
        self._params = {name: tensor.detach().clone() for name, tensor in params.items()}
        self._first = next(iter(self._params.values()))

    @property
    def size(self) -> int:
        """The number M of parameters."""
        return sum(tensor.numel() for tensor in self._params.values())

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return self._first.dtype

    @property
    def device(self) -> torch.device:
        """The parameters' device."""
        return self._first.device

    def multiply(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return ∇²R @ block.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns.
        """
        product = torch.zeros_like(block)
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in self._params.items()}
        with torch.enable_grad():
            for term in self._terms(leaves):
                gradient = gradient_of(term, list(leaves.values()), create_graph=True)
                if gradient.requires_grad:
                    for start in range(0, block.shape[1], _COLUMNS):
                        columns = slice(start, start + _COLUMNS)
                        product[:, columns] += _backward(gradient, list(leaves.values()), block[:, columns])
        return product


def _backward(gradient: Tensor, leaves: list[Tensor], block: Tensor) -> Tensor:
    """Return the Jacobian of the gradient, transposed, times each column."""
    if block.shape[1] == 1:
        parts = torch.autograd.grad(
            gradient, leaves, block[:, 0], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.reshape(-1) for part in parts]).unsqueeze(1)
    return backward_rows(gradient, leaves, block.T.contiguous()).T


def backward_rows(outputs: Tensor, leaves: list[Tensor], rows: Tensor) -> Tensor:
    """Return rows @ ∂outputs/∂leaves, (k, M), one vectorised backward pass for all rows."""
    parts = torch.autograd.grad(outputs, leaves, rows, retain_graph=True, allow_unused=True, is_grads_batched=True)
    # materialize_grads would give the zeros of unused leaves without the batch dimension.
    filled = [
        rows.new_zeros(len(rows), leaf.numel()) if part is None else part.reshape(len(rows), -1)
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return torch.cat(filled, dim=1)
