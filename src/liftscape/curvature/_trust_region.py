"""The least value of a quadratic in a ball."""

from math import sqrt

import torch
from jaxtyping import Float
from scipy.optimize import root_scalar
from torch import Tensor

from liftscape.curvature._work import safe_power

__all__ = ["minimise_quadratic"]


def minimise_quadratic(
    eigenvalues: Float[Tensor, " n"], components: Float[Tensor, " n"], radius: float
) -> Float[Tensor, " n"]:
    """Return the s that minimises cᵀs + ½ Σ λ_i s_i² over ‖s‖ ≤ radius, in coordinates where the quadratic is diagonal.

    s = −c/(λ + σ) with σ = 0 if λ > 0 and that fits, else σ ≥ max(0, −min λ) such that ‖s‖ = radius; in the hard case,
    where c has no part along min λ < 0 and the rest does not reach the sphere, a step along it does.

    Source: Moré and Sorensen 1983, SIAM J. Sci. Stat. Comput. 4.

    Args:
        eigenvalues: λ, ascending, (n,), float64.
        components: c, (n,), float64.
        radius: positive.

    Returns:
        s, (n,).

    Example:
        >>> minimise_quadratic(torch.tensor([-1.0, 2.0]), torch.tensor([0.0, 2.0]), 2.0).tolist()
        [1.88..., -0.66...]
    """
    # The minimiser stays where the quadratic is multiplied, and the root finder's tolerance is absolute.
    power = safe_power(torch.cat([eigenvalues, components])) or 1.0
    eigenvalues, components = eigenvalues * power, components * power
    lowest = float(eigenvalues[0])
    tiny = torch.finfo(eigenvalues.dtype).eps * (float(eigenvalues.abs().max()) or 1.0)

    def step(shift: float) -> Tensor:
        return -components / (eigenvalues + shift)

    def overshoot(shift: float) -> float:
        # Nearly linear in the shift, so that the root is found in a few steps.
        return 1 / radius - 1 / max(float(step(shift).norm()), 1e-300)

    if lowest > tiny and float(step(0.0).norm()) <= radius:
        return step(0.0)
    least = max(0.0, -lowest) + tiny
    if float(step(least).norm()) > radius:
        # Twice what is enough, since with one component it would be the root itself, on either side by rounding.
        most = least + 2 * float(components.norm()) / radius
        return step(float(root_scalar(overshoot, bracket=(least, most)).root))
    inside = step(least)
    if lowest >= -tiny:
        return inside
    room = sqrt(max(0.0, radius**2 - float(inside @ inside) + float(inside[0]) ** 2))
    # Both senses are as good but for the gradient's part along it.
    inside[0] = -room if float(components[0]) > 0 else room
    return inside
