"""R and ∇R along rays: many points at once, with what rounding does to them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.critical._batched import Landscape, landscape_of
from liftscape.functional import MODEL_ERRORS, RandomRounding
from liftscape.outcomes import LiftscapeError
from liftscape.risk import EmpiricalRisk

__all__ = ["Field", "field_at"]

_DRAWS, _SAFETY = 3, 4.0


@dataclass(frozen=True)
class Field:
    """R and ∇R close to θ.

    Attributes:
        landscape: how they are evaluated.
        theta: θ, (M,).
    """

    landscape: Landscape
    theta: Float[Tensor, " M"]

    @property
    def reach(self) -> float:
        """The longest step along a ray, 1 or as far as the origin."""
        return max(1.0, float(self.theta.norm()))

    def ladder(self, rungs: int) -> Float[Tensor, " L"]:
        """Return steps a factor four apart, ascending to the longest one."""
        exponents = torch.arange(1 - rungs, 1, dtype=self.theta.dtype, device=self.theta.device)
        return self.reach * 4.0**exponents

    def values(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, " K"]:
        """Return R at each point; not a number where the model refuses it."""
        return _where_defined(self.landscape.values, thetas, thetas.new_full((), torch.nan))

    def gradients(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, "K M"]:
        """Return ∇R at each point; not a number where the model refuses it."""
        return _where_defined(self.landscape.gradients, thetas, torch.full_like(self.theta, torch.nan))

    def gradient_noise(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, "K M"]:
        """Return what rounding can do to each component of the gradients."""
        return _spread(self.gradients, thetas)

    def noise(self, thetas: Float[Tensor, "K M"]) -> tuple[Float[Tensor, " K"], Float[Tensor, "K M"]]:
        """Return what rounding can do to the values and to each component of the gradients, from the same passes."""

        def joined(rows: Float[Tensor, "K M"]) -> Float[Tensor, "K N"]:
            values, gradients = self.landscape.both(rows)
            return torch.cat([values[:, None], gradients], dim=1)

        undefined = self.theta.new_full((len(self.theta) + 1,), torch.nan)
        spread = _spread(lambda rows: _where_defined(joined, rows, undefined), thetas)
        return spread[:, 0], spread[:, 1:]

    @cached_property
    def noise_here(self) -> tuple[float, Float[Tensor, " M"]]:
        """What rounding can do to R(θ) and to ∇R(θ), measured once, since several steps compare with it."""
        value, gradient = self.noise(self.theta[None])
        return float(value[0]), gradient[0]

    def value_noise(self, thetas: Float[Tensor, "K M"]) -> Float[Tensor, " K"]:
        """Return what rounding can do to the values."""
        return _spread(self.values, thetas)


def field_at(risk: EmpiricalRisk) -> Field:
    """Return R and ∇R close to the risk's point.

    Args:
        risk: the empirical risk.

    Returns:
        The field, vectorised where the module allows it.
    """
    theta = risk.flatten()
    draws = torch.Generator().manual_seed(0)
    move = torch.randn(theta.shape, generator=draws, dtype=torch.float64).to(theta)
    probe = torch.stack([theta, theta + 0.1 * move])
    return Field(landscape_of(risk, probe, second=False), theta)


def _where_defined(evaluate: Callable[[Tensor], Tensor], thetas: Tensor, undefined: Tensor) -> Tensor:
    """Evaluate all points at once, or by halves where one of them lies outside of the model's domain."""
    try:
        return evaluate(thetas)
    except LiftscapeError:
        raise
    except MODEL_ERRORS:
        if len(thetas) == 1:
            return undefined[None]
    half = len(thetas) // 2
    return torch.cat([_where_defined(evaluate, part, undefined) for part in (thetas[:half], thetas[half:])])


def _spread(evaluate: Callable[[Tensor], Tensor], thetas: Tensor) -> Tensor:
    """Return four times the largest difference that rounding of the points and of all results made, at least eps."""
    exact, eps = evaluate(thetas), torch.finfo(thetas.dtype).eps
    largest = eps * exact.abs()
    draws = torch.Generator().manual_seed(0)
    for seed in range(_DRAWS):
        nudge = 2 * torch.rand(thetas.shape, generator=draws, dtype=torch.float64).to(thetas) - 1
        with RandomRounding(seed):
            # Of moves by less than one rounding many would be rounded away.
            moved = evaluate(thetas + 2 * eps * nudge * thetas)
        largest = torch.maximum(largest, (moved - exact).abs())
    return _SAFETY * largest
