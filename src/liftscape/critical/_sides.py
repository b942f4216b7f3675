"""Gradients on all sides of the kinks that meet at θ, and what is read off them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from liftscape.critical._field import Field
from liftscape.risk import EmpiricalRisk

__all__ = ["Budget", "Sides", "shortest_in_hull", "steepest_slopes"]

# How many roundings of θ away from it gradients are taken, or how far beyond the kinks next to it.
_ROUNDINGS, _NEAREST, _BEYOND = 1e4, 64.0, 30.0
_DRAWS, _CELLS = 24, 8
# A gradient that leaves the hull's shortest vector as it is to a thousandth says that the hull is complete there.
_COMPLETE = 1e-3
_STARTS, _TURNS = 12, 40
# A fall counts from thirty roundings of R, at the three smallest steps at which it would be seen.
_NOISES, _RUNGS, _SUCCESSIVE, _SHARE = 30.0, 24, 3, 0.25


class Budget:
    """How many gradients may still be taken.

    Args:
        gradients: how many in all.
    """

    def __init__(self, gradients: int) -> None:
        self.left = gradients

    def take(self, wanted: int) -> int:
        """Return how many of the wanted gradients remain, and take them off."""
        granted = max(0, min(wanted, self.left))
        self.left -= granted
        return granted


@dataclass(frozen=True)
class Sides:
    """R around a point where it is not smooth.

    Attributes:
        risk: the empirical risk.
        field: R and ∇R around θ.
        radius: how far from θ gradients are taken.
        resolution: gradients shorter than this cannot be told from 0.
        generator: source of directions.
    """

    risk: EmpiricalRisk
    field: Field
    radius: float
    resolution: float
    generator: torch.Generator

    @classmethod
    def at(
        cls, risk: EmpiricalRisk, field: Field, tolerance: float, margin: float, generator: torch.Generator
    ) -> "Sides":
        """Return the sides of kinks within a margin of θ."""
        theta = field.theta
        eps = torch.finfo(theta.dtype).eps
        radius = max(_ROUNDINGS * eps * float(theta.abs().max()), _NEAREST * eps, _BEYOND * margin)
        rays = radius * cls(risk, field, radius, 0.0, generator).draw(_CELLS)
        # Along a ray the gradient of a cone stays as it is, and any other moves by the curvature times the radius.
        moved = field.gradients(theta + 2 * rays) - field.gradients(theta + rays)
        bend = float(torch.nan_to_num(moved, posinf=0.0, neginf=0.0).norm(dim=1).max())
        rounding = float(field.gradient_noise(theta + rays[:1]).norm())
        return cls(risk, field, radius, tolerance + 10 * bend + 10 * rounding, generator)

    def draw(self, count: int) -> Float[Tensor, "K M"]:
        """Draw unit directions."""
        rows = torch.randn(count, len(self.field.theta), generator=self.generator, dtype=torch.float64)
        rows = rows.to(self.field.theta)
        return rows / rows.norm(dim=1, keepdim=True)

    def gradients(self, directions: Float[Tensor, "K M"]) -> Float[Tensor, "K M"]:
        """Return ∇R on the sides to which directions point; where it is not finite, zero."""
        found = self.field.gradients(self.field.theta + self.radius * directions)
        return torch.where(torch.isfinite(found), found, 0.0)

    def hull(self, budget: Budget) -> tuple[Float[Tensor, " M"], Float[Tensor, "K M"], bool]:
        """Return the shortest vector in the hull of the gradients around θ, those gradients, and whether it is final.

        Each turn looks to where the shortest vector says that R falls: the gradient there either shortens it, or shows
        that no gradient does.
        """
        rows = self.gradients(self.draw(budget.take(_DRAWS)))
        while True:
            shortest = shortest_in_hull(rows)
            length = float(shortest.norm())
            if length <= self.resolution:
                return shortest, rows, True
            if not budget.take(1):
                return shortest, rows, False
            found = self.gradients(-shortest[None] / length)
            if float(found[0] @ shortest) >= (1 - _COMPLETE) * length**2:
                return shortest, rows, True
            rows = torch.cat([rows, found])

    def falls(self, rate: float, direction: Float[Tensor, " M"], order: int) -> bool:
        """Tell whether R falls along the half-line by at least a quarter of rate·hᵖ/p! where that is first seen."""
        steps = self.field.ladder(_RUNGS)
        thetas = torch.cat([self.field.theta[None], self.field.theta + steps[:, None] * direction])
        values, noise = self.field.values(thetas), self.field.value_noise(thetas)
        predicted = rate * steps**order / order
        seen = torch.nonzero(-predicted > _NOISES * (noise[1:] + noise[0])).flatten()
        seen = seen[steps[seen] >= self.radius][:_SUCCESSIVE]
        changes = (values[1:] - values[0])[seen]
        return len(seen) == _SUCCESSIVE and bool((changes < _SHARE * predicted[seen]).all())


def shortest_in_hull(vectors: Float[Tensor, "count M"]) -> Float[Tensor, " M"]:
    """Return the shortest vector in the convex hull of the rows, by nonnegative least squares.

    Args:
        vectors: at least one row.

    Returns:
        The vector, (M,).

    Example:
        >>> round(float(shortest_in_hull(torch.tensor([[1.0, 1.0], [1.0, -1.0]])).norm()), 6)
        1.0
    """
    scale = float(vectors.norm(dim=1).max())
    if scale == 0.0:
        return torch.zeros_like(vectors[0])
    rows = vectors.double().cpu() / scale
    # The shortest vector of the hull solves min ‖Vᵀw‖² + (1ᵀw − 1)², up to its length.
    stacked = torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], dim=1).T
    weights = torch.from_numpy(nnls(stacked.numpy(), [*[0.0] * rows.shape[1], 1.0])[0])
    return (scale * (rows.T @ (weights / weights.sum()))).to(vectors)


def steepest_slopes(
    sides: Sides, gradients: Float[Tensor, "K M"], budget: Budget
) -> list[tuple[float, Float[Tensor, " M"]]]:
    """Lower the one-sided slope R′(θ; v) over unit vectors v by subgradient steps from several starts.

    Args:
        sides: R around θ.
        gradients: on some sides; R falls fastest against them where it falls.
        budget: how many gradients may be taken.

    Returns:
        Negative slopes with their directions, steepest first.
    """
    lengths = gradients.norm(dim=1)
    against = -gradients[lengths > sides.resolution] / lengths[lengths > sides.resolution, None]
    starts = torch.cat([against[: _STARTS // 2], sides.draw(_STARTS)])[:_STARTS]
    v, best, slopes = starts, starts, torch.full((len(starts),), torch.inf).to(starts)
    for turn in range(_TURNS):
        if budget.take(len(v)) < len(v):
            break
        rows = sides.gradients(v)
        here = (rows * v).sum(dim=1)
        lower = here < slopes
        best, slopes = torch.where(lower[:, None], v, best), torch.where(lower, here, slopes)
        along = rows - here[:, None] * v
        lengths = along.norm(dim=1, keepdim=True)
        # Steps that shrink like this sum to infinity, so that every start can come around the sphere.
        v = v - 0.7 * (turn + 1) ** -0.7 * torch.where(lengths > 0, along / lengths.clamp_min(1e-300), 0.0)
        v = v / v.norm(dim=1, keepdim=True)
    order = slopes.argsort().tolist()
    return [(float(slopes[index]), best[index]) for index in order if float(slopes[index]) < -sides.resolution]
