"""Points with a sample on a kink: is zero a generalised gradient, and does a one-sided descent open?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["OneSided", "one_sided_descent"]

# Gradients are taken this far from θ, relative to 1 + |θ|, so that every side of a kink is met.
_RADIUS = 1e-8
_DRAWS = 48
_TURNS = 6
_CELLS = 4
# Steps along a slope, at most as long as makes the curvature undo a quarter of it.
_LONGEST, _SHARES = 1e-3, (1.0, 1e-1, 1e-2)
_CURVATURE_STEPS = (1e-2, 3e-3, 1e-3)


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
    """

    stationarity: float
    resolution: float
    descent: Literal["slope", "curvature"] | None
    rate: float
    direction: Float[Tensor, " M"] | None

    @property
    def stationary(self) -> bool:
        """Whether 0 is a generalised gradient, as far as can be told."""
        return self.stationarity <= self.resolution


def one_sided_descent(
    risk: EmpiricalRisk, tolerance: float = 1e-9, generator: torch.Generator | None = None
) -> OneSided:
    """Sample the gradients around θ and look for a half-line along which R falls.

    Stationarity is min ‖Σ w_i ∇R(θ + δu_i)‖ over w ≥ 0, Σ w_i = 1. A slope R′(θ; v) < 0 is sought by the iteration
    v ← −∇R(θ + δv) from every sampled gradient, a curvature among the negative eigenvectors of the Hessians on several
    sides; either counts only if R itself falls by the predicted amount at three steps.

    Source: Burke, Lewis, Overton 2005 (SIAM J. Optim. 15, 751-779), gradient sampling; theory T5 (a).

    Args:
        risk: the empirical risk, float64; its model is left as it was.
        tolerance: gradients shorter than this count as zero.
        generator: source of the directions u, on the CPU; seed 0 when None.

    Returns:
        The stationarity, and the descent if one was found.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False).double()
        >>> _ = model.weight.data.zero_()
        >>> data = (torch.ones(1, 1).double(), torch.zeros(1, 1).double())
        >>> one_sided_descent(EmpiricalRisk(model, lambda z, y: z.abs().sum(), data)).stationary
        True
        >>> one_sided_descent(EmpiricalRisk(model, lambda z, y: -z.relu().sum(), data)).descent
        'slope'
    """
    sides = _Sides(risk, tolerance, torch.Generator().manual_seed(0) if generator is None else generator)
    stationarity = shortest_in_hull(sides.gradients)
    for slope, direction in sides.slopes():
        if sides.falls(slope, direction, "slope"):
            return OneSided(stationarity, sides.resolution, "slope", slope, direction)
    for curvature, direction in sides.curvatures():
        if sides.falls(curvature, direction, "curvature"):
            return OneSided(stationarity, sides.resolution, "curvature", curvature, direction)
    return OneSided(stationarity, sides.resolution, None, 0.0, None)


def shortest_in_hull(vectors: Float[Tensor, "count M"]) -> float:
    """Return the norm of the shortest vector in the convex hull of the rows, by nonnegative least squares."""
    scale = float(vectors.norm(dim=1).max())
    if scale == 0.0:
        return 0.0
    rows = vectors.double().cpu() / scale
    # The shortest vector of the hull solves min ‖Vᵀw‖² + (1ᵀw − 1)², up to its length.
    stacked = torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], dim=1).T
    weights = torch.from_numpy(nnls(stacked.numpy(), [*[0.0] * rows.shape[1], 1.0])[0])
    return scale * float((rows.T @ weights).norm() / weights.sum())


class _Sides:
    """The gradients on all sides of the kinks that meet at θ."""

    def __init__(self, risk: EmpiricalRisk, tolerance: float, generator: torch.Generator) -> None:
        self.risk, self.theta = risk, risk.flatten()
        self.value = float(risk.value())
        self.radius = _RADIUS * (1 + float(self.theta.abs().mean()))
        draws = torch.randn(_DRAWS, len(self.theta), generator=generator, dtype=torch.float64).to(self.theta)
        self.directions = draws / draws.norm(dim=1, keepdim=True)
        self.gradients = torch.stack([risk.gradient()] + [self.gradient(u) for u in self.directions])
        # Within one side the gradient moves by the curvature times the radius.
        first = risk.hessian() @ self.directions[:_CELLS].T
        self.resolution = 10 * tolerance + 10 * self.radius * max(
            1.0, float(first.norm(dim=0).max()) * len(draws) ** 0.5
        )

    def gradient(self, direction: Tensor) -> Tensor:
        """Return ∇R on the side to which a direction points."""
        return self.risk.gradient(self.risk.unflatten(self.theta + self.radius * direction))

    def slopes(self) -> Iterator[tuple[float, Tensor]]:
        """Yield half-lines whose one-sided slope is negative."""
        for start in self.gradients[1:]:
            gradient = start
            for _ in range(_TURNS):
                length = float(gradient.norm())
                if length <= self.resolution:
                    break
                v = -gradient / length
                gradient = self.gradient(v)
                slope = float(gradient @ v)
                if slope < -self.resolution:
                    yield slope, v
                    break

    def curvatures(self) -> Iterator[tuple[float, Tensor]]:
        """Yield both senses of the steepest negative curvature on several sides."""
        for u in self.directions[:_CELLS]:
            dense = self.risk.hessian(self.risk.unflatten(self.theta + self.radius * u)).to_dense()
            values, vectors = torch.linalg.eigh((dense + dense.T) / 2)
            for index in torch.nonzero(values < -1e-3 * values.abs().max()).flatten()[:8].tolist():
                yield float(values[index]), vectors[:, index]
                yield float(values[index]), -vectors[:, index]

    def falls(self, rate: float, direction: Tensor, kind: str) -> bool:
        """Tell whether R falls along the half-line by at least a quarter of the prediction at every step."""
        steps = self._slope_steps(rate, direction) if kind == "slope" else _CURVATURE_STEPS
        for step in steps:
            predicted = rate * step if kind == "slope" else rate * step**2 / 2
            change = float(self.risk.value(self.risk.unflatten(self.theta + step * direction))) - self.value
            if not change < predicted / 4 or -predicted / 4 < 1e3 * torch.finfo(self.theta.dtype).eps * abs(self.value):
                return False
        return True

    def _slope_steps(self, rate: float, direction: Tensor) -> tuple[float, ...]:
        """Return steps along which the slope outweighs the curvature on that side."""
        there = self.risk.hessian(self.risk.unflatten(self.theta + self.radius * direction))
        curvature = abs(float(direction @ (there @ direction)))
        longest = min(_LONGEST, -rate / (2 * curvature)) if curvature > 0 else _LONGEST
        return tuple(share * longest for share in _SHARES)
