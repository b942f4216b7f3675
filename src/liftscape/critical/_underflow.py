"""Whether products that depend on parameters underflow to zero, which no derivative tells from a zero of structure."""

from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from liftscape.critical._field import Field
from liftscape.functional import MODEL_ERRORS
from liftscape.risk import EmpiricalRisk

__all__ = ["underflows"]

# Of numbers that are not zero these are not zero either, in exact arithmetic.
_NEVER_ZERO = frozenset({"mul", "div", "pow", "square", "reciprocal", "rsqrt", "exp", "exp2"})
_DISTANCES = (1.0, 1e-3)


def underflows(risk: EmpiricalRisk, field: Field) -> bool:
    """Tell whether some result in R or in its gradient is zero because a number too small for its dtype was rounded.

    Source: derived.

    Args:
        risk: the empirical risk at θ.
        field: R and ∇R around θ.

    Returns:
        Whether it was seen at random points at distances 1 and 10⁻³ from θ.
    """
    draws = torch.Generator().manual_seed(0)
    for distance in _DISTANCES:
        move = torch.randn(field.theta.shape, generator=draws, dtype=torch.float64).to(field.theta)
        seen = _Underflow()
        try:
            with seen:
                risk.gradient(risk.unflatten(field.theta + distance * move))
        except MODEL_ERRORS:
            continue
        if seen.found:
            return True
    return False


@final
class _Underflow(TorchDispatchMode):
    """Looks at every product, quotient, power and exponential for entries that became zero."""

    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if self.found or name not in _NEVER_ZERO:
            return func(*args, **(kwargs or {}))
        # Before the call, which may write into what it reads.
        zero = _zeros(name, args)
        result = func(*args, **(kwargs or {}))
        if zero is not None and isinstance(result, Tensor) and result.is_floating_point():
            self.found = bool(((result == 0) & ~zero).any())
        return result


def _zeros(name: str, args: Any) -> Tensor | None:
    """Return where a result is zero in exact arithmetic, None where that is not known."""
    first = args[0]
    if not isinstance(first, Tensor):
        return None
    if name in {"exp", "exp2", "reciprocal", "rsqrt"}:
        # What is −∞ or ∞ is meant to be left out.
        return ~torch.isfinite(first)
    zero = (first == 0) | ~torch.isfinite(first)
    if name in {"mul", "div"}:
        for each in args[1:2]:
            other = each if isinstance(each, Tensor) else torch.tensor(each, dtype=torch.float64, device=first.device)
            zero = zero | ~torch.isfinite(other) | ((other == 0) & (name == "mul"))
    return zero
