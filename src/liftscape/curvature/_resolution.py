"""How finely an end of a spectrum has to be resolved: by its values, not by those at the other end."""

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._lanczos import Krylov

__all__ = ["TINY", "certain_errors", "rounding_of"]

# What stands for rounding where an operator is zero.
TINY = 1e-150

# With an error of a tenth of a value its sign and its order are certain.
_CERTAIN = 0.1
# Rounding up to this share of the largest |value|, as in float64, tells zero from a value that matters.
_ZERO = 1e-10


def certain_errors(values: Float[Tensor, " m"], rounding: float, scale: float) -> Float[Tensor, " m"]:
    """Return the largest error at which each value is certain: a tenth of it, or what rounding leaves of zero.

    A tolerance relative to ‖H‖ says nothing of an end whose values are smaller than it: with eigenvalues 10⁸, −1 and
    others in (½, 1), an error of 10⁻⁶·10⁸ hides the sign of the smallest.

    Source: derived.

    Args:
        values: λ, (m,).
        rounding: the bound of what rounding does to an eigenvalue.
        scale: the largest |eigenvalue|.

    Returns:
        max(|λ|/10, rounding), without the second where rounding is above 1e-10 of the scale.

    Example:
        >>> certain_errors(torch.tensor([-1.0, 0.0], dtype=torch.float64), 1e-6, 1e8).tolist()
        [0.1, 1e-06]
        >>> certain_errors(torch.tensor([-1.0, 0.0], dtype=torch.float64), 1e3, 1e8).tolist()
        [0.1, 0.0]
    """
    return (_CERTAIN * values.abs()).clamp_min(rounding if rounding <= _ZERO * scale else 0.0)


def rounding_of(krylov: Krylov, scale: float) -> float:
    """Return the bound of what rounding does to a Ritz value: the measured part, and 10·eps·(1 + √n)·scale.

    Source: derived.

    Args:
        krylov: the decomposition.
        scale: the largest |Ritz value|.

    Returns:
        The bound.
    """
    eps = torch.finfo(krylov.basis.rows.dtype).eps
    return krylov.rounding + 10 * eps * (1 + krylov.processed**0.5) * scale
