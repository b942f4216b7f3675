"""Points with a sample on a kink: is zero a generalised gradient, and does a one-sided descent open?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._field import Field, field_at
from liftscape.critical._sides import Budget, Sides, steepest_slopes
from liftscape.curvature import most_negative_eigenpair
from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["OneSided", "one_sided_descent"]

_CELLS = 4
# A product with the Hessian costs about as much as two gradients.
_GRADIENTS = 2
_TOLERANCE = 1e-2


@dataclass(frozen=True)
class OneSided(Outcome):
    """The risk around a point at which it is not smooth.

    Attributes:
        stationarity: norm of the shortest vector in the convex hull of the gradients around θ; near 0 where 0 is a
            generalised gradient (Clarke).
        resolution: values of the stationarity below this cannot be told from 0.
        descent: "slope" or "curvature" where R falls to first or to second order along a half-line, else None.
        rate: the negative slope or curvature along it; 0 where there is none.
        direction: (M,), of length one; None where there is none.
        complete: whether the hull holds every gradient that could shorten its shortest vector.
    """

    stationarity: float
    resolution: float
    descent: Literal["slope", "curvature"] | None
    rate: float
    direction: Float[Tensor, " M"] | None
    complete: bool = True

    @property
    def stationary(self) -> bool:
        """Whether 0 is a generalised gradient, as far as can be told."""
        return self.stationarity <= self.resolution


def one_sided_descent(
    risk: EmpiricalRisk,
    tolerance: float = 1e-9,
    generator: torch.Generator | None = None,
    *,
    margin: float = 0.0,
    max_products: int = 300,
    field: Field | None = None,
) -> OneSided:
    """Sample the gradients around θ and look for a half-line along which R falls.

    Stationarity is min ‖Σ w_i ∇R(θ + δu_i)‖ over w ≥ 0, Σ w_i = 1; gradients are added where the shortest vector says
    that R falls until none shortens it. ∇R(θ) itself is not among them, since what autograd returns at a kink need not
    be a generalised gradient. A slope R′(θ; v) < 0 is sought against the shortest vector, or where that is 0 by
    subgradient steps over unit vectors v; a curvature among the lowest eigenvectors of ∇²R on several sides. Either
    counts only if R itself falls by a quarter of the predicted amount at the three smallest steps at which it is seen.

    Source: Burke, Lewis, Overton 2005 (SIAM J. Optim. 15, 751-779), gradient sampling; theory T5 (a).

    Args:
        risk: the empirical risk, float64; its model is left as it was.
        tolerance: gradients shorter than this count as zero.
        generator: source of the directions u, on the CPU; seed 0 when None.
        margin: how far the kinks are from θ, if not exactly there.
        max_products: how many products with ∇²R may be taken, a gradient counting as half of one.
        field: R and ∇R around θ, where they are at hand.

    Returns:
        The stationarity, and the descent if one was found.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False).double()
        >>> _ = model.weight.data.zero_()
        >>> data = (torch.ones(1, 1).double(), torch.zeros(1, 1).double())
        >>> one_sided_descent(EmpiricalRisk(model, lambda z, y: z.abs().sum(), data)).stationary
        True
        >>> one_sided_descent(EmpiricalRisk(model, lambda z, y: -z.abs().sum(), data)).descent
        'slope'
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    sides = Sides.at(risk, field_at(risk) if field is None else field, tolerance, margin, generator)
    hull, search = (Budget(_GRADIENTS * max_products * share // 100) for share in (40, 40))
    shortest, gradients, complete = sides.hull(hull)
    stationarity = float(shortest.norm())
    outcome = lambda kind, rate, v: OneSided(stationarity, sides.resolution, kind, rate, v, complete)
    if stationarity > sides.resolution:
        direction = -shortest / stationarity
        falls = complete and sides.falls(-stationarity, direction, 1)
        return outcome("slope", -stationarity, direction) if falls else outcome(None, 0.0, None)
    for slope, direction in steepest_slopes(sides, gradients, search):
        if sides.falls(slope, direction, 1):
            return outcome("slope", slope, direction)
    for curvature, direction in _curvatures(sides, max_products // (5 * _CELLS)):
        if sides.falls(curvature, direction, 2):
            return outcome("curvature", curvature, direction)
    return outcome(None, 0.0, None)


def _curvatures(sides: Sides, max_products: int) -> Iterator[tuple[float, Float[Tensor, " M"]]]:
    """Yield both senses of the steepest negative curvature on several sides."""
    for u in sides.draw(_CELLS) if max_products else ():
        H = sides.risk.hessian(sides.risk.unflatten(sides.field.theta + sides.radius * u))
        found = most_negative_eigenpair(H, tolerance=_TOLERANCE, max_products=max_products)
        if not len(found.values) or not float(found.values[0]) < 0:
            continue
        for sense in (1, -1):
            yield float(found.values[0]), sense * found.vectors[:, 0]
