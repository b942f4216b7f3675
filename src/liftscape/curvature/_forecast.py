"""What a long work will cost, told beforehand from one timed product."""

import time
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from liftscape.operators import SymmetricOperator, as_operator
from liftscape.outcomes import Outcome

__all__ = ["Forecast", "eigenpairs_products", "forecast"]


@final
@dataclass(frozen=True)
class Forecast(Outcome):
    """The expected cost of products and stored vectors.

    Attributes:
        products: how many products.
        seconds: their wall-clock time, at the time of one.
        memory_bytes: what the stored vectors take; the products' own memory is not in it.
        seconds_per_product: the one that was timed.
    """

    products: int
    seconds: float
    memory_bytes: int
    seconds_per_product: float

    def __str__(self) -> str:
        """Say it in one sentence."""
        minutes = self.seconds / 60
        duration = f"{self.seconds:.2g} s" if minutes < 2 else f"{minutes:.0f} min"
        return (
            f"About {self.products:,} products of {self.seconds_per_product:.2g} s each, {duration} in all, with "
            f"{self.memory_bytes / 2**20:,.0f} MiB of stored vectors."
        )


def forecast(
    H: "SymmetricOperator | LinearOperator | Tensor | np.ndarray", products: int, *, vectors: int = 0
) -> Forecast:
    """Forecast the cost of so many products and stored vectors from one timed product.

    seconds = products × the second of two products, whose first warms caches; memory = vectors × M × bytes of an entry.

    Source: derived.

    Args:
        H: (M, M), any symmetric operator.
        products: how many, as steps · probes of a density or :func:`eigenpairs_products`.
        vectors: how many stored vectors.

    Returns:
        The forecast.

    Example:
        >>> expected = forecast(torch.eye(1000), products=50, vectors=40)
        >>> expected.products, expected.memory_bytes
        (50, 160000)
    """
    operator = as_operator(H)
    vector = torch.ones(operator.size, dtype=operator.dtype, device=operator.device)
    seconds = 0.0
    for _ in range(2):
        begun = time.perf_counter()
        # Reading one entry waits for the device.
        float((operator @ vector)[0])
        seconds = time.perf_counter() - begun
    return Forecast(products, products * seconds, vectors * operator.size * operator.dtype.itemsize, seconds)


def eigenpairs_products(k: int, *, which: str = "both") -> tuple[int, int]:
    """Return how many products eigenpairs typically takes, and the most that it takes by default.

    Typical is what Hessians of trained and untrained networks of 10⁴ parameters took; a spectrum whose end is crowded
    takes more.

    Source: measured.

    Args:
        k: how many values at each end.
        which: the ends.

    Returns:
        (typical, largest).

    Example:
        >>> eigenpairs_products(10, which="largest")
        (80, 2000)
    """
    total = k * (2 if which == "both" else 1)
    return 60 + 2 * total, 1000 + 100 * total
