"""Sparse tensors: the dense ones that hold their entries."""

import torch
from torch import Tensor

__all__ = ["dense_parts"]

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
