"""The neuron that lowers the risk most: directions by gradient ascent from many starts, thresholds as they go."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.escaping._crossings import Crossing
from liftscape.escaping._thresholds import best_thresholds

__all__ = ["Neuron", "best_neuron", "gain"]

_STEPS = 60
_FIRST, _LONGER, _SHORTER, _SHORTEST = 0.3, 1.4, 0.4, 1e-7
# In units of the features' spread: steeper neurons of a curved activation are told from a kink no more.
_STEEPEST = 30.0
_NARROW, _DENSE = 0.01, 1024
_SIZEABLE = 0.05
_GRID = 200
_NEWTON = 20

_Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


@final
@dataclass(frozen=True)
class Neuron:
    """One neuron t = a·h + c beyond the end of its piece.

    Attributes:
        direction: a, (m,), float64.
        bias: c.
        gain: ‖Σ_i g_i φ_i‖² / Σ_i φ_i² on the rows that were searched, with the ridge.
    """

    direction: Float[Tensor, " m"]
    bias: float
    gain: float


def gain(
    deviations: Float[Tensor, "T n"], gradients: Float[Tensor, "n D"], ridge: "Tensor | float" = 0.0
) -> Float[Tensor, " T"]:
    """Return ‖Σ_i g_i φ_i‖² / (Σ_i φ_i² + ridge), 0 where all φ_i vanish.

    Args:
        deviations: φ_i of T neurons.
        gradients: g_i.
        ridge: one for all, or one for each neuron.

    Returns:
        One number for each neuron.
    """
    squares = deviations.square().sum(dim=1) + ridge
    sums = (deviations @ gradients).square().sum(dim=1)
    return torch.where(squares > 0, sums / squares.clamp_min(torch.finfo(squares.dtype).tiny), 0.0)


def best_neuron(
    h: Float[Tensor, "n m"],
    g: Float[Tensor, "n D"],
    crossing: Crossing,
    starts: int,
    generator: torch.Generator,
    ridge: float = 0.0,
) -> Neuron:
    """Maximise ‖Σ_i g_i φ(a·h_i + c)‖² / (Σ_i φ(a·h_i + c)² + ridge·n·Var(a·h)) over a and c.

    The part of g that a change of W and b would remove is taken out first, where there are more rows than features: at
    a critical point there is none. For a kink φ is a half-space's max(a·h − τ, 0), and at each direction τ is the best
    one exactly; for a curved end a and c ascend together, and c is refined on a grid and by Newton's steps.

    Directions lie in the span of the features' principal components that spread by a hundredth of the widest one or
    more: along narrower ones the weights of a neuron would be so large that training could not go on from there.

    Source: derived (theory 7).

    Args:
        h: features, float64.
        g: ∂R/∂z.
        crossing: the end to be crossed.
        starts: how many directions ascend.
        generator: of the starts, on the CPU.
        ridge: more of it prefers neurons that deviate on many samples, of smaller weights.

    Returns:
        The best neuron found; its pre-activation is e + side·(a·h − τ) for a kink, in the scale of the features.
    """
    mean = h.mean(dim=0)
    basis = _whitening(h - mean)
    x = (h - mean) @ basis
    left = _beyond_affine(x, g)
    first = _starts(x, left, starts, generator)
    if crossing.is_kink:
        a, threshold, value = _kinked(x, left, first, ridge * len(x))
        sign, constant = crossing.side, crossing.end - crossing.side * threshold
    else:
        a, constant, value = _curved(x, left, first, crossing, ridge * len(x))
        sign = 1
    direction = sign * (basis @ a)
    return Neuron(direction, constant - float(direction @ mean), value)


def _whitening(centred: Float[Tensor, "n m"]) -> Float[Tensor, "m q"]:
    """Return the principal components that are not narrow, each over its spread."""
    n, m = centred.shape
    if m <= _DENSE:
        variances, vectors = torch.linalg.eigh(centred.T @ centred / n)
    else:
        # So many rows tell the widest components of many features well enough, at a cost that does not grow with m³.
        rows = centred[:: -(-n // _DENSE)]
        variances, left = torch.linalg.eigh(rows @ rows.T / len(rows))
        vectors = rows.T @ left / (variances.clamp_min(torch.finfo(rows.dtype).tiny) * len(rows)).sqrt()
    wide = variances > _NARROW**2 * variances[-1]
    if not bool(wide.any()):
        return torch.eye(m, 1, dtype=centred.dtype, device=centred.device)
    return vectors[:, wide] / variances[wide].sqrt()


def _beyond_affine(x: Tensor, g: Tensor) -> Tensor:
    """Return g minus its least-squares affine function of the features, where rows outnumber these."""
    if len(x) <= 2 * (x.shape[1] + 1):
        return g
    ones = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    gram = ones.T @ ones
    return g - ones @ (torch.linalg.pinv(gram, rtol=1e-12, hermitian=True) @ (ones.T @ g))


def _starts(x: Tensor, g: Tensor, count: int, generator: torch.Generator) -> Float[Tensor, "T m"]:
    """Return unit directions: both signs of the only one, else random ones and differences of rows that pull."""
    if x.shape[1] == 1:
        return torch.tensor([[1.0], [-1.0]], dtype=x.dtype, device=x.device).repeat(-(-count // 2), 1)
    drawn = torch.randn(count, x.shape[1], generator=generator, dtype=torch.float64).to(x)
    pull = g.norm(dim=1).double().cpu() + torch.finfo(torch.float64).tiny
    ends = torch.multinomial(pull, 2 * (count // 2), replacement=True, generator=generator).view(2, -1).to(x.device)
    drawn[: count // 2] = x[ends[0]] - x[ends[1]] + 1e-3 * drawn[: count // 2]
    return drawn / drawn.norm(dim=1, keepdim=True)


def _kinked(x: Tensor, g: Tensor, first: Tensor, ridge: float) -> tuple[Tensor, float, float]:
    """Return direction, threshold and gain of the best half-space."""

    def objective(a: Tensor) -> tuple[Tensor, Tensor]:
        p = a @ x.T
        found = best_thresholds(p, g, ridge)
        phi = (p - found.threshold[:, None]).clamp_min(0.0)
        V, Q = phi @ g, (phi.square().sum(dim=1, keepdim=True) + ridge).clamp_min(torch.finfo(x.dtype).tiny)
        # The threshold is a maximum between data points, or at one where φ is continuous: it adds nothing.
        pull = torch.where(phi > 0, V @ g.T - V.square().sum(dim=1, keepdim=True) / Q * phi, 0.0)
        return found.gain, 2 * (pull @ x) / Q

    a, value = _ascend(objective, first, lambda each: each / each.norm(dim=1, keepdim=True))
    best = int(value.argmax())
    found = best_thresholds(a[best : best + 1] @ x.T, g, ridge)
    return a[best], float(found.threshold[0]), float(found.gain[0])


def _curved(x: Tensor, g: Tensor, first: Tensor, crossing: Crossing, ridge: float) -> tuple[Tensor, float, float]:
    """Return direction, bias and gain of the best neuron of a curved activation."""

    def of(v: Tensor) -> Tensor:
        own = ridge * v[:, :-1].square().sum(dim=1)
        return _sizeable_gain(crossing.deviation(v[:, :-1] @ x.T + v[:, -1:]), g, own)

    def objective(v: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = v.detach().requires_grad_()
            value = of(leaf)
            return value.detach(), torch.autograd.grad(value.sum(), leaf)[0].nan_to_num(0.0, 0.0, 0.0)

    def clip(v: Tensor) -> Tensor:
        length = v[:, :-1].norm(dim=1, keepdim=True)
        return torch.cat([v[:, :-1] * (_STEEPEST / length.clamp_min(_STEEPEST)), v[:, -1:]], dim=1)

    steepness = torch.logspace(-0.5, 0.8, len(first), dtype=x.dtype, device=x.device)[:, None]
    a = first * steepness
    v, value = _ascend(objective, torch.cat([a, _on_grid(a, x, g, crossing, ridge)[:, None]], dim=1), clip)
    top = v[value.topk(min(3, len(v))).indices]
    refined = torch.cat([top[:, :-1], _on_grid(top[:, :-1], x, g, crossing, ridge)[:, None]], dim=1)
    candidates = torch.cat([top, refined])
    best = candidates[int(of(candidates).argmax())]
    c = _newton(best, of)
    return (
        best[:-1],
        float(c),
        float(gain(crossing.deviation(best[None, :-1] @ x.T + c), g, ridge * best[:-1].square().sum())[0]),
    )


def _on_grid(a: Tensor, x: Tensor, g: Tensor, crossing: Crossing, ridge: float) -> Float[Tensor, " T"]:
    """Return the best bias of each direction on a grid over all places where some sample is beyond the end."""
    share = torch.linspace(0.0, 1.0, _GRID, dtype=x.dtype, device=x.device)
    best = []
    for each in a:
        p = x @ each
        low, high = crossing.end - p.max(), crossing.end - p.min()
        # The curved activations of torch bend about 0, be the end of the piece as far as that of a tail.
        reach = 0.5 * (high - low) + 1.0 + abs(crossing.end)
        biases = (low - reach if crossing.side < 0 else low) + share * (high - low + reach)
        values = _sizeable_gain(crossing.deviation(p + biases[:, None]), g, ridge * each.square().sum())
        best.append(biases[int(values.argmax())])
    return torch.stack(best)


def _sizeable_gain(deviations: Tensor, gradients: Tensor, ridge: Tensor) -> Float[Tensor, " T"]:
    """Return the gain, less where no deviation is sizeable."""
    # The gain itself knows no scale, and the farthest of a tail, where φ is rounding, would do as well as its middle.
    largest = deviations.abs().amax(dim=1).square()
    return gain(deviations, gradients, ridge) * largest / (largest + _SIZEABLE**2)


def _newton(v: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the bias at the nearest maximum, by Newton's steps that are kept only where the gain rises."""
    a, c = v[:-1], v[-1]
    for _ in range(_NEWTON):
        with torch.enable_grad():
            leaf = c.detach().requires_grad_()
            value = of(torch.cat([a, leaf[None]])[None])[0]
            slope = torch.autograd.grad(value, leaf, create_graph=True)[0]
            curvature = torch.autograd.grad(slope, leaf)[0] if slope.requires_grad else torch.zeros_like(c)
        trial = (c - slope / curvature).detach()
        if not (float(curvature) < 0 and float(of(torch.cat([a, trial[None]])[None])[0]) > float(value.detach())):
            break
        c = trial
    return c


def _ascend(objective: _Objective, x: Tensor, project: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Ascend from every start, each with a step of its own that grows when it rises and shrinks when it does not."""
    value, slope = objective(x)
    rate = torch.full_like(value, _FIRST)
    for _ in range(_STEPS):
        length = slope.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        size = x.norm(dim=1, keepdim=True)
        trial = project(x + (rate[:, None] * size) * slope / length)
        new_value, new_slope = objective(trial)
        better = new_value > value
        x = torch.where(better[:, None], trial, x)
        slope = torch.where(better[:, None], new_slope, slope)
        value = torch.where(better, new_value, value)
        rate = rate * torch.where(better, _LONGER, _SHORTER)
        if float(rate.max()) < _SHORTEST:
            break
    return x, value
