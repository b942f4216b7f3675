"""Judging a point where slopes of the risk differ from side to side."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._field import Field
from liftscape.critical._kinks import KinkMargin
from liftscape.critical._one_sided import one_sided_descent
from liftscape.critical._verdict import Verdict
from liftscape.risk import EmpiricalRisk

__all__ = ["descends", "judge_kinked", "jumps"]

_RUNGS, _NOISES = 24, 30.0
# Zero is a generalised gradient only where gradients of a thousand times the tolerance are told from it.
_COARSE = 1e3
# Beside a kink gradients of two radii a hundred apart differ by as much, elsewhere by a hundredth.
_LINES, _RADII, _SHRUNK = 4, (1e-6, 1e-8), 0.5


def descends(field: Field, gradient: Float[Tensor, " M"]) -> bool:
    """Tell whether R is seen to fall against the gradient by a quarter of what it promises.

    Args:
        field: R and ∇R around θ.
        gradient: what is taken for ∇R(θ), (M,).

    Returns:
        Whether a step was found at which it does.
    """
    length = gradient.norm()
    if not float(length) > 0:
        return False
    steps = field.ladder(_RUNGS)
    thetas = torch.cat([field.theta[None], field.theta - steps[:, None] * gradient / length])
    values, noise = field.values(thetas), field.value_noise(thetas)
    promised = steps * length / 4
    fallen = (values[1:] - values[0] < -promised) & (promised > _NOISES * (noise[1:] + noise[0]))
    return bool(fallen.any())


def jumps(field: Field, gradient: Float[Tensor, " M"]) -> bool:
    """Tell whether ∇R differs from side to side of θ by what does not shrink with the distance.

    Args:
        field: R and ∇R around θ.
        gradient: what is taken for ∇R(θ), (M,).

    Returns:
        Whether it does on one of four random lines.
    """
    rays = _rays(field)
    apart, noise = [], field.gradient_noise(field.theta + _RADII[1] * rays[:1]).norm()
    for radius in _RADII:
        ahead, behind = field.gradients(torch.cat([field.theta + radius * rays, field.theta - radius * rays])).chunk(2)
        sides = [ahead - behind, ahead - gradient, behind - gradient]
        apart.append(torch.stack(sides).nan_to_num(0.0, 0.0, 0.0).norm(dim=2))
    wide, close = apart
    return bool(((close > _SHRUNK * wide) & (close > 10 * noise)).any())


def _leaps(field: Field) -> bool:
    """Tell whether R itself differs from side to side of θ by what does not shrink with the distance.

    Args:
        field: R and ∇R around θ.

    Returns:
        Whether it does on one of four random lines.
    """
    rays, apart = _rays(field), []
    for radius in _RADII:
        sides = torch.cat([radius * rays, -radius * rays])
        apart.append((field.values(field.theta + sides) - field.values(field.theta[None])).nan_to_num(0.0).abs())
    # Beside θ, since at θ rounding itself may lead from side to side.
    noise = field.value_noise(field.theta + _RADII[1] * rays[:1])
    wide, close = apart
    return bool(((close > _SHRUNK * wide) & (close > 10 * noise)).any())


def _rays(field: Field) -> Float[Tensor, "K M"]:
    """Draw directions as long as the parameters."""
    draws = torch.Generator().manual_seed(0)
    rays = torch.randn(_LINES, len(field.theta), generator=draws, dtype=torch.float64).to(field.theta)
    return (1 + field.theta.abs().mean()) * rays / rays.norm(dim=1, keepdim=True)


def judge_kinked(
    risk: EmpiricalRisk,
    field: Field,
    kinks: KinkMargin,
    tolerance: float,
    max_products: int,
    evidence: dict[str, Any],
) -> Verdict:
    """Judge a point where slopes differ from side to side.

    Args:
        risk: the empirical risk.
        field: R and ∇R around θ.
        kinks: those at θ or next to it.
        tolerance: gradients shorter than this count as zero.
        max_products: how many products may be taken.
        evidence: what is found is added to it.

    Returns:
        "not critical", "one-sided saddle", "non-smooth stationary" or "undecided".
    """
    margin = 0.0 if kinks.on_kink or not kinks.beside else kinks.margin
    sides = one_sided_descent(risk, tolerance, margin=margin, max_products=max_products, field=field)
    evidence |= {
        "stationarity": sides.stationarity,
        "stationarity_resolution": sides.resolution,
        "one_sided_descent": sides.descent,
        "one_sided_rate": sides.rate,
        "method": "gradients sampled on all sides of the kinks",
    }
    where = _where(kinks)
    if not sides.stationary:
        if sides.descent:
            return Verdict(
                "not critical",
                f"{where}, every generalised gradient is at least {sides.stationarity:.1e} long, and R falls",
            )
        return Verdict("undecided", f"{where}; whether 0 is a generalised gradient there was not settled")
    if sides.descent:
        return Verdict(
            "one-sided saddle", f"{where} and R falls along a half-line with {sides.descent} {sides.rate:.2e}"
        )
    if sides.resolution > _COARSE * tolerance:
        coarse = f"gradients below {sides.resolution:.0e} are not told from 0"
        return Verdict("undecided", f"{where}, and {coarse} on the sides of it")
    if _leaps(field):
        return Verdict("undecided", f"{where}, and R itself jumps there")
    if not jumps(field, risk.gradient()):
        return Verdict("undecided", f"{where}, but the gradient is continuous there")
    return Verdict("non-smooth stationary", f"{where}; 0 is a generalised gradient there, and no descent was found")


def _where(kinks: KinkMargin) -> str:
    """Say what lies where slopes differ."""
    if kinks.on_kink:
        return f"{kinks.on_kink} pre-activation(s) lie on a kink at '{kinks.layer}'"
    if kinks.unlisted:
        return f"slopes differ from side to side of {', '.join(kinks.unlisted)}"
    return f"a pre-activation lies {kinks.margin:.0e} beside a kink at '{kinks.layer}'"
