"""Critical points without negative curvature: does R fall to a higher order along a curve out of the null space?"""

from dataclasses import dataclass
from math import isfinite, log

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._field import field_at
from liftscape.critical._reduced import ReducedRisk, reduced_risk
from liftscape.critical._spectrum import spectrum_at
from liftscape.functional import RandomRounding
from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["HigherOrderDescent", "descent_in_null_space", "higher_order_descent"]

# Directions are searched at these steps times the largest parameter, since the lowest order rules only at small ones.
_SCALES = (0.5, 0.1, 0.02, 4e-3, 1e-4, 1e-6, 1e-8)
_DRAWS, _AXES, _IMPROVED, _TURNS = 16, 48, 3, 12
# Directions closer than this are one.
_SAME = 0.9999
# A descent is turned at its fifth smallest step, whose decrease is at least 64 times what counts as one.
_REFINED, _ABOVE_NOISE = 6, 4
# Steps at which the order is read off, a factor √2 apart, and how many ratios must show the same order.
_LADDER = tuple(0.5 * 2 ** (-k / 2) for k in range(72))
_RATIOS, _SPREAD, _LOWEST_ORDER = 5, 0.2, 3
# A fall counts from thirty times what random rounding makes of R there, and from ten times what curvature could undo.
_NOISES, _OVER_CURVATURE, _DRAWN_CURVATURES = 30.0, 10.0, 3
# A rise at smaller steps counts from three roundings; one that curvature below its rounding could make must be as small
# as this, relative to the reach.
_BELOW, _VISIBLE, _BASIN, _LEAST = 24, 3.0, 1e-6, 1e-13


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
    at θ + hu + v. Directions are ± the null eigenvectors and random ones, at steps from 10⁻⁸ to 1, the lowest of them
    improved by descent on the sphere: c is a local maximum over directions, to a few per cent. A descent counts only if
    log(R(θ) − ρ) has the same integer slope p ≥ 3 over at least six steps h in succession, from the smallest at which
    it stands out of rounding, if ρ is nowhere above R(θ) before, and if it is at least ten times ½U·h² at all of them,
    U being the error bound of uᵀ∇²R u: a small positive curvature would make θ a minimum. None proves nothing: a
    descent along a curve that no line of N starts, or below rounding, is not seen.

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
    spectrum = spectrum_at(risk, risk.gradient())
    if spectrum.inertia.negative or not spectrum.inertia.zero:
        return None
    return descent_in_null_space(risk, reduced_risk(field_at(risk), spectrum), generator)


def descent_in_null_space(
    risk: EmpiricalRisk, reduced: ReducedRisk, generator: torch.Generator | None = None
) -> HigherOrderDescent | None:
    """Search as :func:`higher_order_descent` does, with the reduced function at hand.

    Args:
        risk: the empirical risk.
        reduced: on the null space of its Hessian.
        generator: source of the random directions.

    Returns:
        The descent or None.
    """
    starts = _starts(reduced, torch.Generator().manual_seed(0) if generator is None else generator)
    scales = torch.tensor(_SCALES, dtype=starts.dtype, device=starts.device) * reduced.field.reach
    changes = reduced.changes((scales[:, None, None] * starts[None]).flatten(0, 1)).reshape(len(scales), -1)
    lowest = changes.topk(min(_IMPROVED, len(starts)), dim=1, largest=False).indices
    rows = starts[lowest.flatten()]
    reached = scales.repeat_interleave(lowest.shape[1])
    directions = _improved(reduced, rows, reached)
    falling = reduced.changes(reached[:, None] * directions) < -reduced.noise
    if not bool(falling.any()):
        return None
    descents = _descents_along(risk, reduced, _distinct(directions[falling]))
    if not descents:
        return None
    best = min(descents, key=lambda descent: (descent.order, -descent.constant))
    return _steepest(risk, reduced, best)


def _distinct(directions: Float[Tensor, "K d"]) -> Float[Tensor, "L d"]:
    """Leave out directions that were found before."""
    kept: list[Tensor] = []
    for direction in directions:
        if all(float(direction @ other) < _SAME for other in kept):
            kept.append(direction)
    return torch.stack(kept)


def _steepest(risk: EmpiricalRisk, reduced: ReducedRisk, found: HigherOrderDescent) -> HigherOrderDescent:
    """Turn a descent where the lowest order rules, since at larger steps others draw the direction away."""
    for _ in range(_REFINED):
        start, step = reduced.null.T @ found.direction, found.steps[min(_ABOVE_NOISE, len(found.steps) - 1)]
        turned = _improved(reduced, start[None], start.new_tensor([step]))[0]
        steeper = next(iter(_descents_along(risk, reduced, turned[None])), None)
        if steeper is None or steeper.order > found.order:
            break
        settled = steeper.order == found.order and steeper.constant < 1.01 * found.constant
        found = steeper
        if settled:
            break
    return found


def _starts(reduced: ReducedRisk, generator: torch.Generator) -> Float[Tensor, "K d"]:
    """Return unit vectors of coordinates in the null space, each with its opposite."""
    d = reduced.dimension
    drawn = torch.randn(_DRAWS, d, generator=generator, dtype=torch.float64).to(reduced.null)
    rows = torch.cat([torch.eye(d).to(reduced.null)[:_AXES], drawn / drawn.norm(dim=1, keepdim=True)])
    return torch.cat([rows, -rows])


def _improved(reduced: ReducedRisk, starts: Float[Tensor, "K d"], scales: Float[Tensor, " K"]) -> Float[Tensor, "K d"]:
    """Lower the reduced function over the directions of spheres by its gradient along each."""
    best, angles = starts, torch.full_like(scales, 0.5)
    values = reduced.changes(scales[:, None] * best)
    for _ in range(_TURNS):
        slopes = reduced.slopes(scales[:, None] * best)
        slopes = slopes - (slopes * best).sum(dim=1, keepdim=True) * best
        lengths = slopes.norm(dim=1)
        # Turning further could gain no more than rounding.
        moving = lengths * scales > reduced.noise
        if not bool(moving.any()):
            break
        turned = best - angles[:, None] * slopes / torch.where(moving, lengths, 1.0)[:, None]
        turned = turned / turned.norm(dim=1, keepdim=True)
        changes = reduced.changes(scales[:, None] * turned)
        lower = moving & (changes < values)
        best = torch.where(lower[:, None], turned, best)
        values, angles = torch.where(lower, changes, values), torch.where(lower, 1.5 * angles, angles / 3)
    return best


def _descents_along(
    risk: EmpiricalRisk, reduced: ReducedRisk, directions: Float[Tensor, "K d"]
) -> list[HigherOrderDescent]:
    """Return the descents among directions."""
    ladder = directions.new_tensor(_LADDER).flip(0) * reduced.field.reach
    thetas, _ = reduced.corrected((ladder[None, :, None] * directions[:, None]).flatten(0, 1))
    changes = (reduced.field.values(thetas) - reduced.value).reshape(-1, len(ladder))
    noise = (_NOISES * reduced.field.value_noise(thetas)).clamp_min(reduced.noise).reshape(-1, len(ladder))
    found = [
        _descent_along(risk, reduced, direction, ladder.tolist(), change.tolist(), least.tolist())
        for direction, change, least in zip(directions, changes, noise, strict=True)
    ]
    return [descent for descent in found if descent is not None]


def _descent_along(
    risk: EmpiricalRisk,
    reduced: ReducedRisk,
    direction: Float[Tensor, " d"],
    ladder: list[float],
    changes: list[float],
    noise: list[float],
) -> HigherOrderDescent | None:
    """Read the order off the steps that stand out of rounding, from the smallest upwards."""
    steps, decreases = [], []
    for step, change, least in zip(ladder, changes, noise, strict=True):
        if change > least or not isfinite(change):
            break
        if change < -least:
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
    u = reduced.null @ direction
    curvature, rounding = _curvature_along(risk, reduced, u)
    if curvature > rounding:
        return None
    # R falls at smaller steps, too, but from here on more than an unseen curvature could undo.
    least = _OVER_CURVATURE * (abs(curvature) + rounding) / 2
    if not _falls_below(reduced, direction, steps[0]):
        return None
    basin = ((abs(curvature) + rounding) / (2 * decreases[0] / steps[0] ** order)) ** (1 / (order - 2))
    if basin > _BASIN * reduced.field.reach:
        return None
    kept = [(step, fall) for step, fall in zip(steps, decreases, strict=True) if fall >= least * step**2]
    if len(kept) <= _RATIOS:
        return None
    steps, decreases = [list(column) for column in zip(*kept, strict=True)]
    constants = torch.tensor([fall / step**order for step, fall in kept], dtype=torch.float64)
    lower = reduced.corrected((steps[-1] * direction)[None])[0][0]
    return HigherOrderDescent(order, float(constants.median()), tuple(steps), tuple(decreases), u, lower)


def _falls_below(reduced: ReducedRisk, direction: Float[Tensor, " d"], step: float) -> bool:
    """Tell whether ∇R, which no constant in R blurs, shows no rise along a direction at smaller steps."""
    steps = step * 4.0 ** -torch.arange(_BELOW, dtype=direction.dtype, device=direction.device)
    # At smaller ones corrections are lost beside the step.
    steps = steps[steps > _LEAST * reduced.field.reach]
    if not len(steps):
        return True
    thetas, settled = reduced.corrected(steps[:, None] * direction, exact=True)
    u = reduced.null @ direction
    slopes = reduced.field.gradients(thetas) @ u
    noise = reduced.field.gradient_noise(thetas) @ u.abs()
    return not bool(((slopes > _VISIBLE * noise) & settled).any())


def _curvature_along(risk: EmpiricalRisk, reduced: ReducedRisk, u: Float[Tensor, " M"]) -> tuple[float, float]:
    """Return uᵀ∇²R u and what rounding can do to it, which is less than the bound that holds for all eigenvalues."""
    H = risk.hessian(risk.unflatten(reduced.theta))
    curvature = float(u @ (H @ u))
    moved = 0.0
    for seed in range(_DRAWN_CURVATURES):
        with RandomRounding(seed):
            product = H.multiply_nudged(u[:, None])[:, 0]
        moved = max(moved, abs(float(u @ product) - curvature))
    return curvature, 4 * moved
