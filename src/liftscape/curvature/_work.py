"""The products that a long work takes: counted, limited, shown and recorded."""

from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._checkpoint import Journal
from liftscape.outcomes import NotFiniteError
from liftscape.risk import SymmetricOperator

__all__ = ["Progress", "Work", "standard_normal"]

# Called with (products done, products in all, an estimate).
Progress = Callable[[int, int], None]


@final
class Work:
    """Products of one operator on behalf of one long work.

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
        self._limit, self._expected, self._progress = limit, expected, progress
        self.journal = None if checkpoint is None else Journal(Path(checkpoint), operator, settings)

    @property
    def left(self) -> int:
        """How many products may still be taken."""
        return self.operator.size * 1_000_000 if self._limit is None else max(0, self._limit - self.done)

    def skip(self, products: int) -> None:
        """Count products that an earlier run of this work took.

        Args:
            products: how many.
        """
        self.done += products

    def multiply(self, rows: Float[Tensor, "b M"]) -> Float[Tensor, "b M"]:
        """Return H times each row.

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
            # A finite sum needs no second look at each entry; one that overflows does.
            if not isfinite(float(known.sum())) and not bool(torch.isfinite(known).all()):
                raise NotFiniteError(
                    f"product {self.done + 1} with the operator of shape {self.operator.shape} is not finite, so it "
                    "has no spectrum here; look for parameters at which the loss overflows or has no second derivative."
                )
            if self.journal is not None:
                self.journal.record(rows, known)
        self.done += len(rows)
        if self._progress is not None:
            self._progress(self.done, max(self._expected, self.done))
        return known


def standard_normal(count: int, operator: SymmetricOperator, generator: torch.Generator) -> Float[Tensor, "b M"]:
    """Draw vectors on the CPU, so that a seed gives the same ones on every device."""
    drawn = torch.randn(count, operator.size, generator=generator, dtype=operator.dtype)
    return drawn.to(operator.device)
