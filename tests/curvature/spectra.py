"""Matrices of a known spectrum in a random basis."""

from collections.abc import Sequence

import torch
from torch import Tensor

F64 = torch.float64


def rotated(eigenvalues: Sequence[float] | Tensor, seed: int = 0) -> Tensor:
    """Return Q diag(eigenvalues) Qᵀ with a random orthogonal Q, symmetric to the last bit."""
    values = torch.as_tensor(eigenvalues, dtype=F64)
    generator = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=F64))
    A = (Q * values) @ Q.T
    return (A + A.T) / 2
