"""Sparse tensors: the dense ones that hold their entries, and the layers whose gradients are sparse."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from liftscape.outcomes import ModelError

__all__ = ["dense_parts", "refuse_sparse_gradients"]

_ROWS = {torch.sparse_csr, torch.sparse_bsr}
_COLUMNS = {torch.sparse_csc, torch.sparse_bsc}


def dense_parts(tensor: Tensor) -> list[Tensor]:
    """Return the tensors with a storage of their own that a tensor consists of, its entries first.

    Args:
        tensor: of any layout.

    Returns:
        The tensor itself where it is dense, else its values and their indices.

    Example:
        >>> [part.numel() for part in dense_parts(torch.eye(3).to_sparse())]
        [3, 6]
    """
    if tensor.layout is torch.sparse_coo:
        return [tensor._values(), tensor._indices()]
    if tensor.layout in _ROWS:
        return [tensor.values(), tensor.crow_indices(), tensor.col_indices()]
    if tensor.layout in _COLUMNS:
        return [tensor.values(), tensor.ccol_indices(), tensor.row_indices()]
    return [tensor]


def refuse_sparse_gradients(model: nn.Module, names: Collection[str]) -> None:
    """Raise, and name the layer, if the gradient of one of these parameters is a sparse tensor.

    Args:
        model: whose parameters they are.
        names: of the parameters to differentiate with respect to.

    Raises:
        ModelError: if an embedding with sparse=True holds one of them.
    """
    chosen = {id(model.get_parameter(name)) for name in names}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse and id(module.weight) in chosen:
            place = f"module '{name}' ({type(module).__name__})" if name else f"the model, {type(module).__name__},"
            raise ModelError(
                f"derivatives are asked for, but {place} has sparse=True, for which torch gives sparse gradients that "
                "cannot be differentiated again; set sparse=False, under which the values are the same."
            )
