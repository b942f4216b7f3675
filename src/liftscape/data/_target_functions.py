"""Synthetic functions of one variable, for regressions small enough to see everything."""

from collections.abc import Callable
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape._random import as_generator
from liftscape.outcomes import DataError

__all__ = ["CURVES", "curve"]

# Each with values of about the size of one on [−1, 1].
CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "sine": lambda x: torch.sin(pi * x),
    "two-frequencies": lambda x: 0.5 * torch.sin(2 * pi * x) + 0.5 * torch.sin(5 * pi * x),
    "step": lambda x: torch.tanh(10 * x),
    "bump": lambda x: torch.exp(-8 * x.square()),
    "absolute": lambda x: x.abs(),
}


def curve(
    name: str = "sine",
    samples: int = 50,
    *,
    noise: float = 0.0,
    generator: torch.Generator | int | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
    """Return y = f(x) + noise at evenly spaced x in [−1, 1].

    Source: none.

    Args:
        name: one of :data:`CURVES`: "sine", "two-frequencies", "step", "bump" or "absolute".
        samples: n, at least 2.
        noise: standard deviation of the normal noise.
        generator: draws it; seed 0 when None.
        dtype: of both tensors.

    Returns:
        Inputs (n, 1) and targets (n, 1).

    Raises:
        DataError: if there is no such function, or fewer than 2 samples.

    Example:
        >>> x, y = curve("absolute", 3)
        >>> x.flatten().tolist(), y.flatten().tolist()
        ([-1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    """
    if name not in CURVES:
        raise DataError(f"there is no curve {name!r}; there are {', '.join(CURVES)}.")
    if samples < 2:
        raise DataError(f"a curve needs at least 2 samples, but {samples} was given.")
    draws = as_generator(generator)
    x = torch.linspace(-1, 1, samples, dtype=torch.float64)[:, None]
    y = CURVES[name](x) + noise * torch.randn(samples, 1, generator=draws, dtype=torch.float64)
    return x.to(dtype), y.to(dtype)
