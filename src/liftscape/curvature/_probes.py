"""Rademacher probes z, drawn one after the other and multiplied in blocks: the source of every estimate here."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from liftscape._random import as_generator
from liftscape.curvature._work import Progress
from liftscape.operators import SymmetricOperator

__all__ = ["AnyOperator", "block_columns", "probe_products", "rademacher"]

AnyOperator = SymmetricOperator | LinearOperator | Tensor | np.ndarray

# Blocks beyond these cost memory and bring no speed.
_ENTRIES = 2**24
_COLUMNS = 32


def block_columns(size: int) -> int:
    """Return how many vectors (M,) to multiply at once: at most 32, and at most 2²⁴ entries in all where M allows.

    Args:
        size: M.

    Returns:
        The number of columns, at least 1.

    Example:
        >>> block_columns(1000), block_columns(11_200_000)
        (32, 1)
    """
    return max(1, min(_COLUMNS, _ENTRIES // max(size, 1)))


def rademacher(H: SymmetricOperator, count: int, generator: torch.Generator) -> Float[Tensor, "M count"]:
    """Draw independent probes with entries ±1, of equal probability, as columns on the operator's device.

    Args:
        H: the operator, for its size, dtype and device.
        count: how many.
        generator: on the CPU; the signs do not depend on how many are drawn at once.

    Returns:
        (M, count).
    """
    signs = torch.empty(count, H.size, dtype=torch.bool)
    for row in signs:
        row.bernoulli_(0.5, generator=generator)
    return signs.to(H.device).to(H.dtype).mul_(2).sub_(1).T


def probe_products(
    H: SymmetricOperator, probes: int, generator: torch.Generator | int | None, progress: Progress | None = None
) -> Iterator[tuple[Float[Tensor, "M k"], Float[Tensor, "M k"]]]:
    """Yield probes z and their products Hz, block by block.

    Args:
        H: the operator.
        probes: how many in all.
        generator: on the CPU; seed 0 when None.
        progress: called with (done, probes) after each block.

    Yields:
        Blocks of columns (M, k), k ≤ 32: the probes and their products.
    """
    draws = as_generator(generator)
    H.prepare()
    columns = block_columns(H.size)
    for start in range(0, probes, columns):
        z = rademacher(H, min(columns, probes - start), draws)
        yield z, H @ z
        if progress is not None:
            progress(min(start + columns, probes), probes)
