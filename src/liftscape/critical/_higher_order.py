"""Critical points without negative curvature: does R fall to a higher order along a curve out of the null space?"""

from dataclasses import dataclass
from math import isfinite, log

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._reduced import ReducedRisk, reduced_risk
from liftscape.critical._spectrum import Spectrum, spectrum_at
from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["HigherOrderDescent", "descent_in_null_space", "higher_order_descent"]

# Directions are searched at these steps, since the lowest order rules only at small ones.
_SCALES = (0.1, 0.02, 0.004)
_DRAWS, _IMPROVED, _TURNS = 16, 3, 12
# A descent is turned at its fifth smallest step, whose decrease is at least 64 times what counts as one.
_REFINED, _ABOVE_NOISE = 8, 4
# Steps at which the order is read off, a factor √2 apart, and how many ratios must show the same order.
_LADDER = tuple(0.5 * 2 ** (-k / 2) for k in range(26))
_RATIOS, _SPREAD, _LOWEST_ORDER = 5, 0.2, 3


@dataclass(frozen=True)
class HigherOrderDescent(Outcome):
    """A curve θ(h) = θ + hu + v(h) along which R falls by c·hᵖ, p ≥ 3.

    Attributes:
        order: p.
        constant: c > 0, the median over the steps.
        steps: h, ascending; between neighbours log|R(θ(h)) − R| grows with a slope within 0.2 of p.
        decreases: R(θ) − R(θ(h)) at each of them, above a thousand roundings of R.
        direction: u, (M,), of length one, in the Hessian's null space.
        lower: θ(h) at the largest step, (M,), where R is lower.
    """

    order: int
    constant: float
    steps: tuple[float, ...]
    decreases: tuple[float, ...]
    direction: Float[Tensor, " M"]
    lower: Float[Tensor, " M"]


def higher_order_descent(risk: EmpiricalRisk, *, generator: torch.Generator | None = None) -> HigherOrderDescent | None:
    """Search the null space N of the Hessian at a critical point with n₋ = 0 for a descent of order p ≥ 3.

    Where ∇²R ⪰ 0 on N^⊥ the sign of R − R(θ) is that of the reduced function ρ(hu) = min over v in N^⊥ of
    R(θ + hu + v), u in N, up to R(θ). Each v comes from chord steps v ← v − H⁺P∇R, so that R itself is seen to fall
    at θ + hu + v. Directions are ± the null eigenvectors and random ones, the lowest of them improved by descent on the
    sphere: c is a local maximum over directions, to a few per cent. A descent counts only if log(R(θ) − ρ) has the same
    integer slope p ≥ 3 over at least six steps h in succession, from the smallest at which it stands out of rounding,
    and ρ is nowhere above R(θ) before. None proves nothing: a descent along a curve that no line of N starts, or below
    rounding, is not seen.

    Source: derived; Lyapunov-Schmidt reduction as in Golubitsky, Schaeffer 1985, chapter VII.

    Args:
        risk: the empirical risk at the point, float64; its model is left as it was.
        generator: source of the random directions, on the CPU; seed 0 when None.

    Returns:
        The descent with its order; None where none is found, an eigenvalue is negative, or none is zero.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False).double()
        >>> _ = model.weight.data.zero_()
        >>> data = (torch.ones(1, 1).double(), torch.zeros(1, 1).double())
        >>> found = higher_order_descent(EmpiricalRisk(model, lambda z, y: 1 - (z**4).sum(), data))
        >>> found.order, round(found.constant, 6)
        (4, 1.0)
        >>> higher_order_descent(EmpiricalRisk(model, lambda z, y: 1 + (z**4).sum(), data)) is None
        True
    """
    return descent_in_null_space(risk, spectrum_at(risk, risk.gradient()), generator)


def descent_in_null_space(
    risk: EmpiricalRisk, spectrum: Spectrum, generator: torch.Generator | None = None
) -> HigherOrderDescent | None:
    """Search as :func:`higher_order_descent` does, with the spectrum at hand.

    Args:
        risk: the empirical risk.
        spectrum: of its Hessian.
        generator: source of the random directions.

    Returns:
        The descent or None.
    """
    if spectrum.inertia.negative or not spectrum.inertia.zero:
        return None
    reduced = reduced_risk(risk, spectrum)
    starts = _starts(reduced, torch.Generator().manual_seed(0) if generator is None else generator)
    for scale in _SCALES:
        changes = [reduced.change(scale * start) for start in starts]
        lowest = sorted(range(len(starts)), key=changes.__getitem__)[:_IMPROVED]
        found = [_descent_from(reduced, starts[index], scale) for index in lowest]
        descents = [descent for descent in found if descent is not None]
        if descents:
            return min(descents, key=lambda descent: (descent.order, -descent.constant))
    return None


def _descent_from(reduced: ReducedRisk, start: Tensor, scale: float) -> HigherOrderDescent | None:
    """Search a descent from one direction."""
    direction = _improved(reduced, start, scale)
    if not reduced.change(scale * direction) < -reduced.noise:
        return None
    found = _descent_along(reduced, direction)
    return None if found is None else _steepest(reduced, found)


def _steepest(reduced: ReducedRisk, found: HigherOrderDescent) -> HigherOrderDescent:
    """Turn a descent where the lowest order rules, since at larger steps others draw the direction away."""
    for _ in range(_REFINED):
        turned = _improved(reduced, reduced.null.T @ found.direction, found.steps[_ABOVE_NOISE])
        steeper = _descent_along(reduced, turned)
        if steeper is None or steeper.order > found.order:
            break
        settled = steeper.order == found.order and steeper.constant < 1.01 * found.constant
        found = steeper
        if settled:
            break
    return found


def _starts(reduced: ReducedRisk, generator: torch.Generator) -> list[Tensor]:
    """Return unit vectors of coordinates in the null space, each with its opposite."""
    d = reduced.dimension
    drawn = torch.randn(_DRAWS, d, generator=generator, dtype=torch.float64).to(reduced.null)
    rows = torch.cat([torch.eye(d).to(reduced.null), drawn / drawn.norm(dim=1, keepdim=True)])
    return list(torch.cat([rows, -rows]))


def _improved(reduced: ReducedRisk, start: Tensor, scale: float) -> Tensor:
    """Lower the reduced function over the directions of a sphere by its gradient along the sphere."""
    best, value, angle = start, reduced.change(scale * start), 0.5
    for _ in range(_TURNS):
        slope = reduced.slope(scale * best)
        slope = slope - (slope @ best) * best
        length = float(slope.norm())
        # Turning further could gain no more than rounding.
        if not length * scale > reduced.noise:
            break
        turned = best - angle * slope / length
        turned = turned / turned.norm()
        change = reduced.change(scale * turned)
        if change < value:
            best, value, angle = turned, change, 1.5 * angle
        else:
            angle = angle / 3
    return best


def _descent_along(reduced: ReducedRisk, direction: Tensor) -> HigherOrderDescent | None:
    """Read the order off the steps that stand out of rounding, from the smallest upwards."""
    steps, decreases = [], []
    for step in reversed(_LADDER):
        change = reduced.change(step * direction)
        if change > reduced.noise or not isfinite(change):
            break
        if change < -reduced.noise:
            steps.append(step)
            decreases.append(-change)
        elif steps:
            break
    slopes = [log(decreases[k + 1] / decreases[k]) / log(steps[k + 1] / steps[k]) for k in range(len(steps) - 1)]
    order = round(slopes[0]) if slopes else 0
    same = next((k for k, slope in enumerate(slopes) if abs(slope - order) > _SPREAD), len(slopes))
    if order < _LOWEST_ORDER or same < _RATIOS:
        return None
    steps, decreases = steps[: same + 1], decreases[: same + 1]
    constants = torch.tensor([fall / step**order for fall, step in zip(decreases, steps, strict=True)])
    return HigherOrderDescent(
        order,
        float(constants.median()),
        tuple(steps),
        tuple(decreases),
        reduced.null @ direction,
        reduced.corrected(steps[-1] * direction),
    )
