"""That gradients are those of values and products those of gradients, by differences along a few directions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite
from typing import final

import torch
from torch import Tensor

from liftscape.derivatives._hessian import Hessian, flatten, unflatten
from liftscape.derivatives._point import Point
from liftscape.derivatives._readings import read_at_points
from liftscape.derivatives._second_derivative import explain_derivative
from liftscape.derivatives._settle import moved_point, random_signs, settle, shifted
from liftscape.operators import Plan
from liftscape.outcomes import Outcome

__all__ = ["CheckedPoints", "DerivativeCheck", "check_derivatives"]

# Up to the first number of parameters each of them is a direction, up to the second each tensor is.
_ENTRIES, _TENSORS = 64, 4000
# Relative to a parameter: the steps of differences of values and of gradients, and how closely they must agree at first
# sight, in double and in shorter precision; rounding is this many units in the last place.
_FIRST = {torch.float64: (1e-6, 1e-7, 1e-5), torch.float32: (1e-2, 3e-3, 3e-2)}
_ROUNDING = 50.0
# How many times as far as others entries of zero are moved at a second look, where high powers of them are seen.
_ZEROS = 30.0
# Of moves away from the point, for a risk that is not finite farther away.
_MOVES = (1.0, 1e-3, 1e-6)
_LEAST = 1e-300
# How many of the largest disagreements, of each kind, are settled.
_DOUBTS = 6


@final
@dataclass(frozen=True)
class DerivativeCheck(Outcome):
    """How far derivatives are from differences.

    Attributes:
        gradient_gap: the largest gap between differences of R and ∇R along a direction, relative to either; where it is
            not small rounding or kinks explain it.
        product_gap: the same of differences of ∇R and the product with ∇²R along one direction, by tensor.
        values: how many times R was evaluated.
        gradients: how many gradients were taken, the product apart.
    """

    gradient_gap: float
    product_gap: float
    values: int
    gradients: int


@final
class CheckedPoints:
    """The last points that were checked, so that each is checked once, with the blocks of its parameters."""

    def __init__(self) -> None:
        self._known: list[tuple[Point, DerivativeCheck]] = []

    def check(self, point: Point, plan: Plan) -> DerivativeCheck:
        """Check the derivatives at a point, or recall that they were.

        Args:
            point: as for :func:`check_derivatives`.
            plan: likewise.

        Returns:
            The gaps.
        """
        for place, known in self._known:
            if place.includes(point):
                return known
        found = check_derivatives(point, plan)
        self._known = [(point, found), *self._known[:1]]
        return found


@final
@dataclass(frozen=True)
class _Doubt:
    """A derivative that disagrees with differences at first sight: of R along a direction, or a row of the product."""

    excess: float
    direction: dict[str, Tensor]
    row: tuple[str, slice] | None
    zeros: float


def check_derivatives(point: Point, plan: Plan) -> DerivativeCheck:
    """Raise if the gradient is not that of R, or the Hessian's products are not those of the gradient, for certain.

    Next to θ, since derivatives at a kink are a convention, each parameter is moved along a random sign by a step
    relative to the mean of its tensor: (R(θ + hd) − R(θ − hd)) / 2h is compared with ∇R·d, and (∇R(θ + hd) −
    ∇R(θ − hd)) / 2h with ∇²R d. It costs 2 gradients, 1 product and 3 values, the time of 3 to 7 products; up to 4,000
    parameters twice that and 2 values for each tensor, or for each parameter of up to 64. Where they disagree, the
    question is settled in double precision on few samples, see :func:`certainly_not`; only what
    differs there at every step, in two draws of point and direction, is refused.

    Source: derived.

    Args:
        point: where; its leaves are the parameters.
        plan: how products are taken there.

    Returns:
        The gaps.

    Raises:
        ModelError: naming the parameters, and the custom function where there is one.
    """
    few = sum(leaf.numel() for leaf in point.leaves.values()) <= _TENSORS
    dtype = next(iter(point.leaves.values())).dtype
    value_step, gradient_step, close = _FIRST.get(dtype, _FIRST[torch.float32])
    eps = _ROUNDING * torch.finfo(dtype).eps
    gaps, product_gaps, values, gradients = [0.0], [0.0], 0, 0
    doubts: list[_Doubt] = []
    for zeros in (1.0, _ZEROS) if few else (1.0,):
        look = _look(point, plan, zeros, (value_step, gradient_step))
        if look is None:
            continue
        near, along, directions, levels, (ahead, behind) = look
        middle = (ahead + behind) / 2
        slopes = unflatten(middle, near.leaves)
        gradients += 2
        for direction, (high, low) in zip(directions, levels, strict=True):
            values += 2
            terms = [float((slopes[name] * part).sum()) for name, part in direction.items()]
            quotient = high / (2 * value_step) - low / (2 * value_step)
            size = max(sum(map(abs, terms)), abs(quotient))
            gap = abs(quotient - sum(terms))
            gaps.append(gap / size if size else 0.0)
            allowed = close * size + eps * max(abs(high), abs(low)) / value_step
            if not gap <= allowed:
                doubts.append(_Doubt(gap / allowed if allowed else inf, direction, None, zeros))
        product = _product(near, plan, flatten(along))
        difference = ahead / (2 * gradient_step) - behind / (2 * gradient_step)
        parts = [unflatten(vector, near.leaves) for vector in (product, difference, middle)]
        for name in near.leaves:
            claimed, seen, slope = (part[name].reshape(-1) for part in parts)
            if not claimed.numel():
                continue
            numbers = torch.stack([(claimed - seen).abs(), torch.maximum(claimed.abs(), seen.abs()), slope.abs()])
            # Of many parameters by tensor, of few by entry.
            rows = (numbers if few else numbers.amax(dim=1, keepdim=True)).double().cpu()
            differ, size = rows[0], rows[1]
            allowed = close * size + eps * rows[2] / gradient_step
            product_gaps.append(float((differ / size.clamp(min=_LEAST)).max()))
            excess = differ / allowed.clamp(min=_LEAST)
            worst = int(excess.nan_to_num(inf).argmax())
            if not float(excess[worst]) <= 1:
                where = slice(worst, worst + 1) if few else slice(None)
                doubts.append(_Doubt(float(excess[worst]), along, (name, where), zeros))
    for of_values in (True, False):
        kind = [doubt for doubt in doubts if (doubt.row is None) == of_values]
        for doubt in sorted(kind, key=lambda doubt: -doubt.excess)[:_DOUBTS]:
            settle(point, doubt.direction, doubt.row, doubt.zeros)
    found = (max(gaps), max(product_gaps)) if gradients else (inf, inf)
    return DerivativeCheck(*found, values, gradients)


def _look(
    point: Point, plan: Plan, zeros: float, steps: tuple[float, float]
) -> tuple[Point, dict[str, Tensor], list[dict[str, Tensor]], list[tuple[float, float]], tuple[Tensor, Tensor]] | None:
    """Return a point next to the given one at which R is finite, directions from it, and what R and ∇R are along them.

    All that is compared at one point is read in one pass over the data, which may take longer than the evaluations.
    """
    value_step, gradient_step = steps
    for share in _MOVES:
        near = moved_point(point, 0, share, zeros)
        along = _scaled_signs(near.leaves, by_entry=zeros > 1)
        directions = list(_directions(along, each=zeros == 1))
        sides = [partial(shifted, near, one, sign * value_step) for one in directions for sign in (1.0, -1.0)]
        ends = [partial(shifted, near, along, sign * gradient_step) for sign in (1.0, -1.0)]
        (middle, *values), (ahead, behind) = read_at_points(near, plan.chunk, [lambda at=near: at, *sides], ends)
        if isfinite(middle):
            return near, along, directions, list(zip(values[::2], values[1::2], strict=True)), (ahead, behind)
    return None


def _scaled_signs(leaves: Mapping[str, Tensor], by_entry: bool) -> dict[str, Tensor]:
    """Return random signs times the mean of their tensor, so that each entry counts, or times the entry."""
    signs = random_signs(leaves, torch.Generator().manual_seed(1))
    sizes = {name: leaf.detach().abs() if by_entry else leaf.detach().abs().mean() for name, leaf in leaves.items()}
    return {name: sign * sizes[name] for name, sign in signs.items()}


def _directions(along: Mapping[str, Tensor], each: bool) -> Iterator[dict[str, Tensor]]:
    """Yield the directions along which values are compared: all parameters at once, and if few are, each on its own."""
    yield dict(along)
    count = sum(part.numel() for part in along.values())
    if not each or count > _TENSORS or count == 1:
        return
    for name, part in along.items():
        if count > _ENTRIES:
            yield {name: part}
            continue
        for place in range(part.numel()):
            single = torch.zeros_like(part).reshape(-1)
            single[place] = part.reshape(-1)[place]
            yield {name: single.view_as(part)}


def _product(point: Point, plan: Plan, vector: Tensor) -> Tensor:
    """Return the product with ∇²R."""
    explain = lambda error: explain_derivative(point, error)
    return Hessian(lambda _: point.terms(plan.chunk), point.leaves, replace(plan, keep=False), explain) @ vector
