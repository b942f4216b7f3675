"""Lines below and above an activation on an interval of pre-activations."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.activations import kind_of, kinks, piece_table
from liftscape.folding._bounds import in_double

__all__ = ["Lines", "bounding_lines"]

# Continuous and made of pieces alone.
_PIECEWISE = {"relu", "relu6", "leaky_relu", "prelu", "hardtanh", "hardsigmoid", "identity"}
# A value and a product, each with a few roundings.
_SLACK = 8 * torch.finfo(torch.float64).eps


class Lines(NamedTuple):
    """αt + β ≤ σ(t) ≤ αʹt + βʹ for all t of an interval, entry by entry.

    Attributes:
        lower_slope: α.
        lower: β.
        upper_slope: αʹ.
        upper: βʹ.
    """

    lower_slope: Float[Tensor, "..."]
    lower: Float[Tensor, "..."]
    upper_slope: Float[Tensor, "..."]
    upper: Float[Tensor, "..."]


def bounding_lines(activation: nn.Module, low: Float[Tensor, "1 c ..."], high: Float[Tensor, "1 c ..."]) -> Lines:
    """Return lines below and above a monotone activation, widened by what rounding may have cost.

    On one exact piece both are its line. Across pieces they are chords of σ between the ends and kinks that touch it
    and leave the least area. Where σ is smooth both have the smaller of the slopes at the two ends, which σ′ nowhere
    undercuts between them, since it rises and then falls for all of these activations.

    Source: Zhang et al. 2018 (arXiv 1811.00866), CROWN; Singh et al. 2019, "An abstract domain for certifying neural
    networks", POPL, which takes the least area too.

    Args:
        activation: that keeps order.
        low: lower ends, channels on axis 1, float64.
        high: upper ends.

    Returns:
        The lines.
    """
    same, name = in_double(activation), kind_of(activation).name
    lines = _chords(activation, same, low, high) if name in _PIECEWISE else _parallels(same, low, high)
    return _on_pieces(activation, lines, low, high)


def _on_pieces(activation: nn.Module, lines: Lines, low: Tensor, high: Tensor) -> Lines:
    """Put the exact line in place of both where an interval lies in one piece."""
    table = piece_table(activation, low.shape[1])
    across = (1, -1, *[1] * (low.ndim - 2))
    # Without a loop over places: pieces are few.
    for lower, upper, slope, intercept in zip(table.lower, table.upper, table.slope, table.intercept, strict=True):
        ends = [end.to(low.device).reshape(across) for end in (lower, upper, slope, intercept)]
        inside = (low > ends[0]) & (high < ends[1])
        a, b = ends[2].expand_as(low), ends[3].expand_as(low)
        # Tables hold slopes and intercepts to a rounding, as 1/6 of a hard sigmoid.
        slack = _SLACK * (b.abs() + a.abs() * torch.maximum(low.abs(), high.abs()))
        exact = (a, b - slack, a, b + slack)
        lines = Lines(*(torch.where(inside, new, old) for new, old in zip(exact, lines, strict=True)))
    return lines


def _chords(activation: nn.Module, same: Any, low: Tensor, high: Tensor) -> Lines:
    """Return the best chords of an activation made of pieces."""
    # A kink outside the interval moves to its end.
    points = [low, *(low.clamp_min(kink).minimum(high) for kink in kinks(activation)), high]
    values = [same(point.clone()) for point in points]
    slopes = [torch.zeros_like(low)]
    for i, (p, v) in enumerate(zip(points, values, strict=True)):
        for q, w in zip(points[i + 1 :], values[i + 1 :], strict=True):
            slopes.append(torch.where(q > p, (w - v) / (q - p), 0.0).nan_to_num(0.0, 0.0, 0.0))
    middle = (low + high) / 2
    best: list[Tensor] | None = None
    for slope in slopes:
        # Any slope is right with the intercept that the ends and kinks ask for.
        heights = torch.stack([value - slope * point for point, value in zip(points, values, strict=True)])
        sizes = torch.stack([value.abs() + (slope * point).abs() for point, value in zip(points, values, strict=True)])
        slack = _SLACK * sizes.amax(dim=0)
        below, above = heights.amin(dim=0) - slack, heights.amax(dim=0) + slack
        if best is None:
            best = [slope, below, slope, above]
            continue
        better = slope * middle + below > best[0] * middle + best[1]
        best[:2] = torch.where(better, slope, best[0]), torch.where(better, below, best[1])
        better = slope * middle + above < best[2] * middle + best[3]
        best[2:] = torch.where(better, slope, best[2]), torch.where(better, above, best[3])
    assert best is not None
    return Lines(*best)


def _parallels(same: Any, low: Tensor, high: Tensor) -> Lines:
    """Return two parallel lines through the ends of a smooth activation."""
    with torch.enable_grad():
        ends = [end.clone().requires_grad_() for end in (low, high)]
        slopes = [torch.autograd.grad(same(end).sum(), end)[0] for end in ends]
    # A little below the true slope, since a slope too large would be wrong and one too small is not.
    slope = ((1 - 1e-9) * torch.minimum(*slopes) - 1e-14).clamp_min(0)
    below, above = (same(end.clone()) for end in (low, high))
    slack = [
        _SLACK * (value.abs() + (slope * end).abs()) for value, end in zip((below, above), (low, high), strict=True)
    ]
    return Lines(slope, below - slope * low - slack[0], slope, above - slope * high + slack[1])
