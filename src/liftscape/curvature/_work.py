"""The products that a long work takes: counted, limited, shown and recorded."""

from collections.abc import Callable
from math import frexp, log2
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._checkpoint import Journal
from liftscape.operators import SymmetricOperator, require_finite_product

__all__ = ["Progress", "Work", "safe_power", "standard_normal"]

# Called with (products done, products in all, an estimate).
Progress = Callable[[int, int], None]

# Norms within this of 1, either way, can be squared and summed over millions of entries in float32, also where H is a
# billion times longer than its product with the first vector.
_SAFE = 2.0**30


@final
class Work:
    """Products of one operator on behalf of one long work, in units in which their squares neither over- nor underflow.

    Args:
        operator: H.
        settings: what makes this work the work it is, plain values; a checkpoint of other settings is refused.
        limit: the largest number of products, or None.
        expected: the number of products that progress counts towards.
        progress: called after each product.
        checkpoint: a folder in which products are recorded, or None.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        settings: dict[str, Any],
        limit: int | None = None,
        expected: int = 1,
        progress: Progress | None = None,
        checkpoint: "Path | str | None" = None,
    ) -> None:
        operator.prepare()
        self.operator = operator
        self.done = 0
        self._scale: float | None = None
        self._limit, self._expected, self._progress = limit, expected, progress
        self.journal = None if checkpoint is None else Journal(Path(checkpoint), operator, settings)

    @property
    def left(self) -> int:
        """How many products may still be taken."""
        return self.operator.size * 1_000_000 if self._limit is None else max(0, self._limit - self.done)

    @property
    def scale(self) -> float:
        """The power of two by which products are multiplied, from the first one that is not zero; 1 for most."""
        return 1.0 if self._scale is None else self._scale

    def skip(self, products: int) -> None:
        """Count products that an earlier run of this work took.

        Args:
            products: how many.
        """
        self.done += products

    def multiply(self, rows: Float[Tensor, "b M"]) -> Float[Tensor, "b M"]:
        """Return H times each row, times the scale.

        Args:
            rows: (b, M).

        Returns:
            (b, M).

        Raises:
            NotFiniteError: if a product is not finite.
        """
        known = None if self.journal is None else self.journal.recall(rows)
        if known is None:
            known = (self.operator @ rows.T).T if len(rows) > 1 else (self.operator @ rows[0]).unsqueeze(0)
            require_finite_product(known)
            if self.journal is not None:
                self.journal.record(rows, known)
        self.done += len(rows)
        if self._progress is not None:
            self._progress(self.done, max(self._expected, self.done))
        if self._scale is None:
            self._scale = safe_power(known)
        return known if self.scale == 1.0 else known * self.scale


def safe_power(vectors: Float[Tensor, "*shape"]) -> float | None:
    """Return the power of two that brings vectors near norm 1, or None where they vanish; 1 within 2³⁰ of that norm.

    Source: derived; multiplication by a power of two rounds nothing.

    Args:
        vectors: of any shape, finite.

    Returns:
        The factor.

    Example:
        >>> safe_power(torch.tensor([3.0])), safe_power(torch.tensor([3 * 2.0**60])) == 2.0**-62
        (1.0, True)
    """
    if 1 / _SAFE < float(torch.linalg.vector_norm(vectors)) < _SAFE:
        return 1.0
    largest = float(torch.linalg.vector_norm(vectors, torch.inf))
    if not largest:
        return None
    # The factor itself, and what it multiplies later, stay within the dtype's range.
    most = int(0.8 * log2(torch.finfo(vectors.dtype).max))
    return 2.0 ** -max(-most, min(most, frexp(largest)[1]))


def standard_normal(count: int, operator: SymmetricOperator, generator: torch.Generator) -> Float[Tensor, "b M"]:
    """Draw vectors on the CPU, so that a seed gives the same ones on every device."""
    drawn = torch.randn(count, operator.size, generator=generator, dtype=operator.dtype)
    return drawn.to(operator.device)
