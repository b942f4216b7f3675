"""What the risk does along the Hessian's null directions: flat, of higher order, curved below resolution, or sloped."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape._random import as_generator
from liftscape.critical._onset import Onset, onset
from liftscape.critical._reduced import ReducedRisk
from liftscape.functional import RandomRounding
from liftscape.outcomes import Outcome

__all__ = ["NullProfile", "null_profile"]

Shape = Literal["flat", "higher order", "curved", "sloped", "far", "unsettled"]

_RUNGS, _AXES, _DRAWS = 20, 6, 6
# The gradient of the reduced function grows as h⁰ off a critical point, as h where it is curved, as h² and faster else.
_SLOPED, _CURVED, _HIGHEST = 0.5, 1.5, 7.0
_FOLLOWED = 1e-7
_SAMPLED, _NUDGES, _SAFETY = 2, 3, 4.0


@dataclass(frozen=True)
class NullProfile(Outcome):
    """How ∇ρ grows along null directions from θ.

    Attributes:
        shapes: how many of the directions looked at are "flat" (∇ρ within rounding as far as it is followed), of
            "higher order" (as h² or faster), "curved" (as h: a small eigenvalue that the error bound hides), "sloped"
            (a gradient is left at θ), "far" (nothing near θ, but more than a power law further on) or "unsettled" (the
            rest of the parameters did not settle within 10⁻⁷ of the way to the origin).
        order: the lowest order of ρ seen among those of higher order; None without.
        curvature: of the curved directions, the one that is largest in absolute value; 0 without.
    """

    shapes: dict[str, int]
    order: int | None
    curvature: float

    def only(self, *allowed: Shape) -> bool:
        """Tell whether no direction is of another shape."""
        return not any(count for shape, count in self.shapes.items() if shape not in allowed)


def null_profile(reduced: ReducedRisk, piecewise: bool, generator: torch.Generator | int | None = None) -> NullProfile:
    """Follow ∇ρ along ± null eigenvectors and random null directions over twelve orders of magnitude.

    An analytic function that is flat near θ is flat everywhere, so that a gradient that begins at a distance is the
    tail of something; in a network with kinks it is a sample that crosses one.

    Args:
        reduced: the reduced function on the null space.
        piecewise: whether the network has kinks.
        generator: source of the random directions, on the CPU; seed 0 when None.

    Returns:
        The shapes that were seen.
    """
    generator = as_generator(generator)
    directions = _directions(reduced, generator)
    steps = reduced.field.ladder(_RUNGS)
    coordinates = steps[:, None, None] * directions[None]
    thetas, settled = reduced.corrected(coordinates.flatten(0, 1), exact=True)
    project = lambda rows: (rows @ reduced.null) @ reduced.null.T
    gradients = project(reduced.field.gradients(thetas))
    gradients = torch.where(settled[:, None], gradients, torch.nan).reshape(len(steps), len(directions), -1)
    noise = _noise(reduced, project, thetas.reshape(len(steps), len(directions), -1))
    followed = settled.reshape(len(steps), -1)[steps <= _FOLLOWED * reduced.field.reach].all(dim=0).tolist()
    shapes: dict[str, int] = dict.fromkeys(get_args(Shape), 0)
    order, curvature = None, 0.0
    for index, direction in enumerate(directions):
        found = onset(steps, gradients[:, index], noise)
        shape = _shape(found, piecewise) if found is not None or followed[index] else "unsettled"
        shapes[shape] += 1
        if shape == "higher order" and found is not None:
            seen = round(found.exponent) + 1
            order = seen if order is None else min(order, seen)
        if shape == "curved" and found is not None:
            rung = int((steps - found.step).abs().argmin())
            here = float(gradients[rung, index] @ (reduced.null @ direction)) / found.step
            curvature = here if abs(here) > abs(curvature) else curvature
    return NullProfile(shapes, order, curvature)


def _shape(found: Onset | None, piecewise: bool) -> Shape:
    """Name what an onset means."""
    if found is None:
        return "flat"
    if found.sudden or found.exponent > _HIGHEST:
        return "flat" if piecewise and found.sudden else "far"
    if found.exponent < _SLOPED:
        return "sloped"
    return "curved" if found.exponent < _CURVED else "higher order"


def _directions(reduced: ReducedRisk, generator: torch.Generator) -> Float[Tensor, "K d"]:
    """Return unit coordinates in the null space, each with its opposite, and those towards the origin."""
    d = reduced.dimension
    drawn = torch.randn(_DRAWS, d, generator=generator, dtype=torch.float64).to(reduced.null)
    rows = torch.cat([torch.eye(d).to(reduced.null)[:_AXES], drawn / drawn.norm(dim=1, keepdim=True)])
    # What is saturated at θ is not at the origin.
    inwards = -reduced.theta @ reduced.null
    length = float(inwards.norm())
    return torch.cat([rows, -rows, inwards[None] / length] if length > 0 else [rows, -rows])


def _noise(
    reduced: ReducedRisk, project: Callable[[Tensor], Tensor], thetas: Float[Tensor, "L K M"], seed: int = 0
) -> Float[Tensor, "L M"]:
    """Return what rounding can make of the null part of ∇R at each step, from some of the directions.

    Both of the gradient, whose null part is taken before sizes are, and of the point, up to where corrections end.
    """
    sampled = thetas[:, -_SAMPLED:]
    points = sampled.flatten(0, 1)
    exact = project(reduced.field.gradients(points))
    largest = torch.finfo(exact.dtype).eps * exact.abs()
    draws = torch.Generator().manual_seed(seed)
    for draw in range(_NUDGES):
        with RandomRounding(draw):
            moved = reduced.field.gradients(points)
        largest = torch.maximum(largest, (project(moved) - exact).abs())
        size = (8 * torch.finfo(exact.dtype).eps * points.norm(dim=1, keepdim=True)).clamp_min(reduced.shortest)
        nudge = torch.randn(len(points), reduced.range.shape[1], generator=draws, dtype=torch.float64).to(points)
        moved = reduced.field.gradients(points + size * nudge @ reduced.range.T)
        largest = torch.maximum(largest, (project(moved) - exact).abs())
    return _SAFETY * largest.reshape(sampled.shape).amax(dim=1).cummax(dim=0).values
