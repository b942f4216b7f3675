"""The best gradient step and the best Newton step that the quadratic model can be trusted with."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._quadratic_model import QuadraticModel
from liftscape.curvature._trust_region import minimise_quadratic
from liftscape.curvature._work import safe_power
from liftscape.outcomes import Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["Step", "best_steps"]

# A step is trusted if R falls by this share of what the model says (Conn, Gould, Toint 2000, Trust-region methods).
_TRUSTED = 0.25
_HALVINGS = 40
_ROUNDINGS = 10


@final
@dataclass(frozen=True)
class Step(Outcome):
    """One step p from θ.

    Attributes:
        length: ‖p‖.
        predicted_decrease: −(∇Rᵀp + ½ pᵀHp), what the quadratic model says.
        decrease: R(θ) − R(θ + p), measured.
    """

    length: float
    predicted_decrease: float
    decrease: float


def best_steps(
    risk: EmpiricalRisk, gradient: Float[Tensor, " M"], model: QuadraticModel, longest: float
) -> tuple[Step, Step]:
    """Return the step along −g, and the step anywhere in the model's space, of least m(p) = gᵀp + ½ pᵀHp in a ball.

    The ball's radius starts at the longest step and is halved until R falls by a quarter of what m says.

    Source: Conn, Gould, Toint 2000, Trust-region methods.

    Args:
        risk: the empirical risk.
        gradient: g, (M,), not zero.
        model: m on a space that holds g.
        longest: the largest radius.

    Returns:
        Both steps.

    Example:
        >>> x = torch.ones(1, 1, dtype=torch.float64)
        >>> line = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        >>> _ = line.weight.data.fill_(1.0)
        >>> risk = EmpiricalRisk(line, "mse", (x, 3 * x))
        >>> space = QuadraticModel(torch.tensor([2.0]), torch.tensor([-4.0]), lambda s: s, 0.0, 0)
        >>> [(step.length, step.decrease) for step in best_steps(risk, risk.gradient(), space, 10.0)]
        [(2.0, 4.0), (2.0, 4.0)]
    """
    values, components = model.values.double().cpu(), model.components.double().cpu()
    length = float(gradient.norm())
    # A gradient whose square underflows has curvature along it all the same.
    power = safe_power(components) or 1.0
    curvature = float((values * (components * power) ** 2).sum()) / (length * power) ** 2

    def downhill(radius: float) -> tuple[Tensor, float]:
        reach = min(radius, length / curvature if curvature > 0 else inf)
        return -gradient * (reach / length), reach * length - curvature * reach**2 / 2

    def newton(radius: float) -> tuple[Tensor, float]:
        s = minimise_quadratic(values, components, radius)
        return model.lift(s.to(model.values)), -float(components @ s + (values * s**2).sum() / 2)

    return _trusted(risk, downhill, longest), _trusted(risk, newton, longest)


def _trusted(risk: EmpiricalRisk, least: Callable[[float], tuple[Tensor, float]], radius: float) -> Step:
    """Halve the radius until R falls as the model says."""
    theta, value = risk.flatten(), float(risk.value())
    rounding = _ROUNDINGS * torch.finfo(theta.dtype).eps * abs(value)
    taken = Step(0.0, 0.0, 0.0)
    for _ in range(_HALVINGS):
        step, predicted = least(radius)
        decrease = value - float(risk.value(risk.unflatten(theta + step.to(theta))))
        taken = Step(float(step.norm()), predicted, decrease)
        if decrease >= _TRUSTED * predicted or predicted <= rounding:
            break
        radius = min(radius, taken.length) / 2
    return taken
