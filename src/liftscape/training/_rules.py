"""Update rules of stacked networks, each network with its own learning rate: those of torch.optim, entry for entry."""

from collections.abc import Mapping
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.outcomes import LiftscapeError

__all__ = ["Adam", "Rule", "StochasticGradient", "make_rule"]

Stack = Mapping[str, Tensor]


@runtime_checkable
class Rule(Protocol):
    """An update rule with its state."""

    def step(self, parameters: Stack, gradients: Stack) -> None:
        """Change stacked parameters (K, …) in place by one step along stacked gradients."""
        ...


@final
class StochasticGradient:
    """v ← m·v + g, θ ← θ − η·v, as torch.optim.SGD.

    Args:
        rates: η of each network, (K,).
        momentum: m.
    """

    def __init__(self, rates: Float[Tensor, " K"], momentum: float = 0.0) -> None:
        self._rates, self._momentum = rates, momentum
        self._velocity: dict[str, Tensor] = {}

    def step(self, parameters: Stack, gradients: Stack) -> None:
        """Take one step.

        Args:
            parameters: stacked, changed in place.
            gradients: stacked.
        """
        for name, theta in parameters.items():
            direction = gradients[name]
            if self._momentum:
                held = self._velocity.setdefault(name, torch.zeros_like(theta))
                direction = held.mul_(self._momentum).add_(direction)
            theta.addcmul_(_over(self._rates, theta), direction, value=-1)


@final
class Adam:
    """m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², θ ← θ − η·m̂/(√v̂ + ε), m̂ and v̂ corrected, as torch.optim.Adam.

    Source: Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1.

    Args:
        rates: η of each network, (K,).
        betas: β₁ and β₂.
        epsilon: ε.
    """

    def __init__(
        self, rates: Float[Tensor, " K"], betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8
    ) -> None:
        self._rates, self._betas, self._epsilon = rates, betas, epsilon
        self._first: dict[str, Tensor] = {}
        self._second: dict[str, Tensor] = {}
        self._steps = 0

    def step(self, parameters: Stack, gradients: Stack) -> None:
        """Take one step.

        Args:
            parameters: stacked, changed in place.
            gradients: stacked.
        """
        self._steps += 1
        first, second = (1 - beta**self._steps for beta in self._betas)
        for name, theta in parameters.items():
            gradient = gradients[name]
            mean = self._first.setdefault(name, torch.zeros_like(theta))
            square = self._second.setdefault(name, torch.zeros_like(theta))
            mean.mul_(self._betas[0]).add_(gradient, alpha=1 - self._betas[0])
            square.mul_(self._betas[1]).addcmul_(gradient, gradient, value=1 - self._betas[1])
            scale = (square / second).sqrt_().add_(self._epsilon)
            theta.addcmul_(_over(self._rates, theta), mean.div(scale).div_(first), value=-1)


def make_rule(name: str, rates: Float[Tensor, " K"], momentum: float) -> Rule:
    """Return the rule of a name.

    Args:
        name: "sgd" or "adam".
        rates: of each network.
        momentum: of SGD.

    Returns:
        The rule with an empty state.

    Raises:
        LiftscapeError: if there is no such rule, or Adam was given a momentum.
    """
    if name == "sgd":
        return StochasticGradient(rates, momentum)
    if name != "adam":
        raise LiftscapeError(f"optimizer must be 'sgd' or 'adam', but {name!r} was given.")
    if momentum:
        raise LiftscapeError(f"momentum {momentum} belongs to 'sgd'; Adam has its own, leave it out.")
    return Adam(rates)


def _over(rates: Float[Tensor, " K"], theta: Tensor) -> Tensor:
    """Return the rates with axes that spread over each network's parameter."""
    return rates.view(-1, *[1] * (theta.ndim - 1)).to(theta)
