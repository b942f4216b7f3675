"""A block of vectors made orthonormal in matrix-matrix products."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["cholesky_qr"]

# Rows are orthonormal where their Gram matrix is within so many eps of the identity.
_LEFT = 8
_TURNS = 3
# Products of longer rows of float32 err by more than that.
_SUMMED = 8192


def cholesky_qr(
    rows: Float[Tensor, "b M"], kept: float, floor: float, chunks: Sequence[slice]
) -> Float[Tensor, "b b"] | None:
    """Make rows orthonormal in place, B = L Q with B Bᵀ = L Lᵀ, where that loses no digits.

    Each pass reads the block once, to divide by L and for the Gram matrix of what is left, all vectors at a time, where
    one after the other is read once for each of those behind it. A further pass takes out what rounding has left of the
    first.

    Source: Yamamoto, Nakatsukasa, Yanagisawa, Fukaya 2015, CholeskyQR2.

    Args:
        rows: B.
        kept: the smallest share of its norm that a row may have left beside those before it.
        floor: a row of which no more is left counts as dependent.
        chunks: slices of the columns that are worked on at a time.

    Returns:
        L, float64 on the CPU, lower triangular; None, and the rows unchanged, where a row keeps less.

    Example:
        >>> rows = torch.tensor([[3.0, 0.0, 0.0], [1.0, 2.0, 0.0]], dtype=torch.float64)
        >>> cholesky_qr(rows, 0.5, 0.0, [slice(None)]).round(decimals=9).tolist()
        [[3.0, 0.0], [1.0, 2.0]]
        >>> rows.round(decimals=9).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    identity = torch.eye(len(rows), dtype=torch.float64)
    total, gram = identity, _gram(rows, chunks)
    for turn in range(_TURNS):
        norms = gram.diagonal().clamp_min(0).sqrt()
        lower, failed = torch.linalg.cholesky_ex(gram / torch.outer(norms, norms))
        left = lower.diagonal()
        if turn == 0 and (int(failed) or not bool((left >= kept).all()) or bool((norms * left <= floor).any())):
            return None
        factor = norms[:, None] * lower
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False).to(rows)
        total, gram = total @ factor, _gram(rows, chunks, inverse)
        if float((gram - identity).abs().max()) <= _LEFT * torch.finfo(rows.dtype).eps:
            break
    return total


def _gram(rows: Tensor, chunks: Sequence[slice], factor: Tensor | None = None) -> Tensor:
    """Return the rows' Gram matrix, float64 on the CPU, after they were multiplied by a factor in place."""
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for columns in chunks:
        # Few columns at a time stay in the cache for both products, which took 0.89 of the time of two passes.
        for part in rows[:, columns].split(_SUMMED, dim=1):
            if factor is not None:
                part.copy_(factor @ part)
            gram += part @ part.T
    return gram.cpu()
