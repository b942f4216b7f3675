"""What leaving neurons do to the risk: out-weights, first and second derivative, and the step that can be trusted."""

from dataclasses import dataclass
from math import inf
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.escaping._affine_rows import Move, line_derivatives, stream_gradients, value_along
from liftscape.escaping._crossings import Crossing
from liftscape.escaping._neuron_directions import Neuron
from liftscape.risk import EmpiricalRisk
from liftscape.samples import loss_name
from liftscape.sites import Site

__all__ = ["Prediction", "move_of", "predict"]

_DEPENDENT = 1e-10
# Where R is no known function of z, a first step moves it by this share of its spread at most.
_SHARE = 0.5
# A step is trusted if R falls by this share of what the model says (Conn, Gould, Toint 2000, Trust-region methods).
_TRUSTED = 0.5
_SHORTER, _SHORTENINGS = 0.75, 60
# And if R still falls there.
_BEFORE = 0.95


@final
@dataclass(frozen=True)
class Prediction:
    """The risk along r ↦ z_i + r·Σ_j β_j φ_j(h_i): R(r) ≈ R + slope·r + ½ curvature·r².

    Attributes:
        out_weights: β_j, (p, D); r = 1 is the step to be taken.
        slope: R′(0).
        curvature: R″(0).
        decrease: −slope − ½ curvature.
        exact: whether R is that quadratic function.
        guaranteed: a decrease that is proved, 0.0 where none is.
    """

    out_weights: Float[Tensor, "p D"]
    slope: float
    curvature: float
    decrease: float
    exact: bool
    guaranteed: float


def move_of(neurons: list[Neuron], crossing: Crossing, out_weights: Float[Tensor, "p D"]) -> Move:
    """Return h ↦ Σ_j β_j φ_j(h).

    Args:
        neurons: that leave.
        crossing: their way out.
        out_weights: β_j.

    Returns:
        A function of rows.
    """

    def move(h: Tensor) -> Tensor:
        return _deviations(neurons, crossing, h) @ out_weights.to(h)

    return move


def predict(
    risk: EmpiricalRisk, site: Site, crossing: Crossing, neurons: list[Neuron], ridge: float = 0.0
) -> Prediction:
    """Choose all out-weights together: β = −s (ΦᵀΦ)⁺V, V = Φᵀg, with the step s that lowers R most.

    Where z is the output and the loss the mean squared error, ∂²R/∂z² = hI, s = 1/h and the decrease
    tr(Vᵀ(ΦᵀΦ)⁺V)/(2h) is exact. For cross-entropy ∂²R/∂z² ≤ 1/(2n), so that s = 2n lowers R by n·tr(Vᵀ(ΦᵀΦ)⁺V) at
    least; otherwise s is Newton's step on the line, shortened until R falls by half of what is predicted, and
    still falls there.

    Source: derived (theory 7).

    Args:
        risk: the empirical risk.
        site: the map.
        crossing: the neurons' way out.
        neurons: that leave.
        ridge: share of its diagonal that is added to ΦᵀΦ, so that neurons alike do not get large opposite weights.

    Returns:
        Out-weights and what they do.
    """
    V, gram, spread, rows = _moments(risk, site.name, crossing, neurons)
    gram = gram + ridge * gram.diagonal().diag()
    unit = -torch.linalg.pinv(gram, rtol=_DEPENDENT, hermitian=True) @ V
    first = float((V * unit).sum())
    if not first < 0:
        return Prediction(0.0 * unit, 0.0, 0.0, 0.0, False, 0.0)
    move = move_of(neurons, crossing, unit)
    second = line_derivatives(risk, site.name, move)[1]
    newton = -first / second if second > 0 else inf
    at_output = site.activation == "output" and site.calls == 1
    name = loss_name(risk.loss) if at_output else None
    if name == "mse":
        return _prediction(unit, first, second, newton, exact=True, guaranteed=0.5 * first**2 / second)
    length = float(torch.linalg.multi_dot([unit.T, gram, unit]).diagonal().sum() / rows) ** 0.5
    step = min(newton, _SHARE * spread / length)
    safe = 2.0 * rows if name == "cross_entropy" else 0.0
    step = max(step, safe)
    value = float(risk.value())
    for _ in range(_SHORTENINGS):
        predicted = -first * step - second * step**2 / 2
        reached, before = (value_along(risk, site.name, move, share * step) for share in (1.0, _BEFORE))
        if value - reached >= _TRUSTED * predicted and reached <= before:
            break
        step = max(_SHORTER * step, safe)
    return _prediction(unit, first, second, step, exact=False, guaranteed=-rows * first if safe else 0.0)


def _prediction(
    unit: Tensor, first: float, second: float, step: float, *, exact: bool, guaranteed: float
) -> Prediction:
    """Scale everything to the step."""
    slope, curvature = step * first, step**2 * second
    return Prediction(step * unit, slope, curvature, -slope - curvature / 2, exact, guaranteed)


def _deviations(neurons: list[Neuron], crossing: Crossing, h: Tensor) -> Float[Tensor, "rows p"]:
    """Return Φ."""
    directions = torch.stack([neuron.direction for neuron in neurons]).to(h)
    biases = torch.tensor([neuron.bias for neuron in neurons], dtype=torch.float64).to(h)
    return crossing.deviation(h @ directions.T + biases)


def _moments(
    risk: EmpiricalRisk, name: str, crossing: Crossing, neurons: list[Neuron]
) -> tuple[Tensor, Tensor, float, int]:
    """Return V = Φᵀg, ΦᵀΦ, the spread of z, and the number of rows."""
    V = gram = total = squares = torch.zeros(())
    rows = 0

    def receive(_name: str, h: Tensor, z: Tensor, g: Tensor) -> None:
        nonlocal V, gram, total, squares, rows
        phi = _deviations(neurons, crossing, h)
        V, gram = V + (phi.T @ g).cpu(), gram + (phi.T @ phi).cpu()
        total, squares = total + z.sum(dim=0).cpu(), squares + z.square().sum().cpu()
        rows += len(h)

    stream_gradients(risk, [name], receive)
    variance = float(squares) / rows - float((total / rows).square().sum())
    return V, gram, max(variance, 0.0) ** 0.5 or 1.0, rows
