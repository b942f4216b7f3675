"""What rounding does to the gradient and the Hessian of R at a point, measured."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.functional import RandomRounding
from liftscape.operators import SymmetricOperator
from liftscape.risk import EmpiricalRisk

__all__ = ["gradient_rounding", "hessian_rounding"]

# The largest of three differences is below a quarter of the error itself in fewer than one of fifty cases.
_DRAWS, _SAFETY = 3, 4.0
_PROBES = 8


def gradient_rounding(risk: EmpiricalRisk, params: Mapping[str, Tensor] | None = None) -> Float[Tensor, " M"]:
    """Return what rounding can do to each component of ∇R(θ).

    Args:
        risk: the empirical risk.
        params: θ by name; the model's when None.

    Returns:
        Four times the largest difference that random rounding made, component by component, (M,).
    """
    gradient = risk.gradient(params)
    largest = torch.finfo(gradient.dtype).eps * gradient.abs()
    for seed in range(_DRAWS):
        with RandomRounding(seed):
            moved = risk.gradient(params)
        largest = torch.maximum(largest, (moved - gradient).abs())
    return _SAFETY * largest


def hessian_rounding(H: SymmetricOperator, dense: Float[Tensor, "M M"] | None = None, seed: int = 0) -> float:
    """Return what rounding can do to ∇²R(θ), in the Frobenius norm, from products with eight random signs.

    E‖Ez‖² = ‖E‖_F² for a vector z of random signs, E being the error.

    Args:
        H: the Hessian as an operator.
        dense: the same as a matrix, where it is at hand.
        seed: of the signs.

    Returns:
        Four times the largest estimate of ‖E‖_F.
    """
    draws = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (H.size, _PROBES), generator=draws, dtype=torch.float64) * 2 - 1
    block = signs.to(dtype=H.dtype, device=H.device)
    products = H @ block if dense is None else dense @ block
    largest = 0.0
    for draw in range(_DRAWS):
        with RandomRounding(draw):
            moved = H.multiply_nudged(block)
        largest = max(largest, float((moved - products).square().sum() / _PROBES) ** 0.5)
    return _SAFETY * largest
