"""That gradients are those of values and products those of gradients, by differences along a few directions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import final

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from liftscape.outcomes import LiftscapeError, ModelError, Outcome
from liftscape.risk._batches import Batch, batch_size
from liftscape.risk._graph_operator import Plan
from liftscape.risk._hessian import Hessian, flatten, gradient_of, unflatten
from liftscape.risk._inputs import MODEL_ERRORS
from liftscape.risk._point import Point, slice_batch
from liftscape.risk._second_derivative import name_custom_function
from liftscape.risk._slope import Line, certainly_not
from liftscape.risk._split import moved

__all__ = ["DerivativeCheck", "check_derivatives"]

# Up to so many parameters each of them is a direction, and up to so many each tensor is.
_ENTRIES, _TENSORS = 64, 4000
# Relative to a parameter: the steps of differences of values and of gradients, and how closely they must agree at first
# sight, in double and in shorter precision; rounding is this many units in the last place.
_FIRST = {torch.float64: (1e-6, 1e-7, 1e-5), torch.float32: (1e-2, 3e-3, 3e-2)}
_ROUNDING = 50.0
# Of moves away from the point, for a risk that is not finite farther away.
_MOVES = (1.0, 1e-3, 1e-6)
# What a doubt is settled on: pieces of so many samples, few enough that kinks lie far apart.
_PIECES, _SAMPLES = 6, 4
_DRAWS = 2
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
@dataclass(frozen=True)
class _Doubt:
    """A derivative that disagrees with differences at first sight: of R along a direction, or a row of the product."""

    excess: float
    direction: dict[str, Tensor]
    row: tuple[str, slice] | None


def check_derivatives(point: Point, plan: Plan) -> DerivativeCheck:
    """Raise if the gradient is not that of R, or the Hessian's products are not those of the gradient, for certain.

    Next to θ, since derivatives at a kink are a convention, each parameter is moved along a random sign by a step
    relative to the mean of its tensor: (R(θ + hd) − R(θ − hd)) / 2h is compared with ∇R·d, and (∇R(θ + hd) −
    ∇R(θ − hd)) / 2h with ∇²R d. It costs 2 gradients, 1 product and 2 values, about 2 to 3 products in all; up to 4,000
    parameters twice that and 4 values for each tensor, or for each parameter of up to 64. Where they disagree, the
    question is settled in double precision on few samples, see :func:`liftscape.risk._slope.certainly_not`; only what differs
    there at every step, in two draws of point and direction, is refused.

    Source: derived.

    Args:
        point: where; its leaves are the parameters.
        plan: how products are taken there.

    Returns:
        The gaps.

    Raises:
        ModelError: naming the parameters, and the custom function where there is one.
    """
    near = _finite_point(point)
    if near is None:
        return DerivativeCheck(inf, inf, len(_MOVES), 0)
    dtype = next(iter(near.leaves.values())).dtype
    value_step, gradient_step, close = _FIRST.get(dtype, _FIRST[torch.float32])
    eps = _ROUNDING * torch.finfo(dtype).eps
    few = sum(leaf.numel() for leaf in near.leaves.values()) <= _TENSORS
    H = Hessian(lambda _: near.terms(plan.chunk), near.leaves, replace(plan, keep=False))
    gaps, product_gaps, values = [0.0], [0.0], 0
    doubts: list[_Doubt] = []
    for along in _scaled_signs(near.leaves, few):
        ahead, behind = (_gradient(_shifted(near, along, side * gradient_step), plan) for side in (1.0, -1.0))
        middle = (ahead + behind) / 2
        slopes = unflatten(middle, near.leaves)
        for direction in _directions(along):
            high, low = (_value(_shifted(near, direction, side * value_step), plan) for side in (1.0, -1.0))
            values += 2
            terms = [float((slopes[name] * part).sum()) for name, part in direction.items()]
            quotient = high / (2 * value_step) - low / (2 * value_step)
            size = max(sum(map(abs, terms)), abs(quotient))
            gap = abs(quotient - sum(terms))
            gaps.append(gap / size if size else 0.0)
            allowed = close * size + eps * max(abs(high), abs(low)) / value_step
            if not gap <= allowed:
                doubts.append(_Doubt(gap / allowed if allowed else inf, direction, None))
        product, difference = H @ flatten(along), ahead / (2 * gradient_step) - behind / (2 * gradient_step)
        parts = [unflatten(vector, near.leaves) for vector in (product, difference, middle)]
        for row in _rows_of(near.leaves, few):
            claimed, seen, slope = (part[row[0]].reshape(-1)[row[1]] for part in parts)
            size = max(float(claimed.abs().max()), float(seen.abs().max()))
            gap = float((claimed - seen).abs().max())
            product_gaps.append(gap / size if size else 0.0)
            allowed = close * size + eps * float(slope.abs().max()) / gradient_step
            if not gap <= allowed:
                doubts.append(_Doubt(gap / allowed if allowed else inf, along, row))
    for of_values in (True, False):
        kind = [doubt for doubt in doubts if (doubt.row is None) == of_values]
        for doubt in sorted(kind, key=lambda doubt: -doubt.excess)[:_DOUBTS]:
            _settle(point, doubt.direction, doubt.row)
    return DerivativeCheck(max(gaps), max(product_gaps), values, 4 if few else 2)


def _finite_point(point: Point) -> Point | None:
    """Return the point next to the given one at which the risk is finite, None where there is no such."""
    for share in _MOVES:
        near = _moved(point, 0, share)
        if isfinite(_value(near, Plan())):
            return near
    return None


def _moved(point: Point, seed: int, share: float = 1.0) -> Point:
    """Return a point next to the given one."""
    generator = torch.Generator().manual_seed(seed)
    leaves = {
        name: (leaf.detach() + share * (moved(leaf, generator) - leaf.detach())).requires_grad_()
        for name, leaf in point.leaves.items()
    }
    return replace(point, leaves=leaves)


def _signs(leaves: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Return a random sign for each entry."""
    draw = lambda leaf: 2.0 * torch.randint(0, 2, leaf.shape, generator=generator) - 1.0
    return {name: draw(leaf).to(leaf) for name, leaf in leaves.items()}


def _scaled_signs(leaves: Mapping[str, Tensor], few: bool) -> Iterator[dict[str, Tensor]]:
    """Yield random signs times the mean of a tensor, so that each one counts; and of few also times each entry."""
    signs = _signs(leaves, torch.Generator().manual_seed(1))
    yield {name: sign * leaves[name].detach().abs().mean() for name, sign in signs.items()}
    if few:
        yield {name: sign * leaves[name].detach().abs() for name, sign in signs.items()}


def _rows_of(leaves: Mapping[str, Tensor], few: bool) -> list[tuple[str, slice]]:
    """Return the parts of each tensor that are looked at apart: entries of few parameters, else all of it."""
    return [
        (name, slice(start, start + 1) if few else slice(None))
        for name, leaf in leaves.items()
        for start in range(leaf.numel() if few else min(1, leaf.numel()))
    ]


def _directions(along: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the directions along which values are compared, all parameters at once first."""
    yield dict(along)
    count = sum(part.numel() for part in along.values())
    if count > _TENSORS or count == 1:
        return
    for name, part in along.items():
        if count > _ENTRIES:
            yield {name: part}
            continue
        for place in range(part.numel()):
            single = torch.zeros_like(part).reshape(-1)
            single[place] = part.reshape(-1)[place]
            yield {name: single.view_as(part)}


def _shifted(point: Point, direction: Mapping[str, Tensor], step: float) -> Point:
    """Return the point moved along a direction."""
    leaves = {
        name: (leaf.detach() + step * direction[name] if name in direction else leaf.detach()).requires_grad_()
        for name, leaf in point.leaves.items()
    }
    return replace(point, leaves=leaves)


def _value(point: Point, plan: Plan) -> float:
    """Return R."""
    with torch.no_grad():
        return float(torch.stack([term.detach() for term in point.terms(plan.chunk)]).sum())


def _gradient(point: Point, plan: Plan) -> Tensor:
    """Return ∇R."""
    leaves = list(point.leaves.values())
    with torch.enable_grad():
        total = torch.zeros_like(flatten(point.leaves).detach())
        for term in point.terms(plan.chunk):
            total += gradient_of(term, leaves)
    return total


def _settle(point: Point, direction: Mapping[str, Tensor], row: tuple[str, slice] | None) -> None:
    """Raise if a derivative is wrong for certain: that of R along a direction, or a row of the product with one."""
    for piece in _pieces(point):
        found = _differing(point, piece, direction, row)
        if found is not None:
            raise _sentence(point, direction if row is None else (row[0],), *found, row is not None)


def _differing(
    point: Point, piece: Batch, direction: Mapping[str, Tensor], row: tuple[str, slice] | None
) -> tuple[float, float] | None:
    """Return difference and derivative on a piece of the data where all draws of the point disagree, else None."""
    found = None
    double = _doubled(point)
    try:
        for seed in range(1, 1 + _DRAWS):
            line = _line(_moved(double, seed), _doubled_batch(piece), direction, row, seed)
            found = certainly_not(line)
            if found is None:
                return None
    except LiftscapeError:
        raise
    except MODEL_ERRORS:
        return None  # a model or a loss that cannot be had in double precision, or for so few samples
    return found


def _line(
    point: Point, piece: Batch, direction: Mapping[str, Tensor], row: tuple[str, slice] | None, seed: int
) -> Line:
    """Return what a derivative is to be compared with on one piece of the data."""
    signs = _signs(point.leaves, torch.Generator().manual_seed(seed))
    # The same sizes as in the direction, with other signs.
    along = {name: signs[name] * part.abs() for name, part in direction.items()}
    probe = None if row is None else signs[row[0]].reshape(-1)[row[1]] * _size(point.leaves[row[0]].reshape(-1)[row[1]])

    def value(shift: float, nudge: int = 0) -> float:
        at = _nudged(_shifted(point, along, shift), nudge) if nudge else _shifted(point, along, shift)
        if row is None:
            with torch.no_grad():
                return float(at.loss_on(piece))
        with torch.enable_grad():
            return float(probed(at, False).detach())

    def probed(at: Point, twice: bool) -> Tensor:
        assert row is not None
        part = torch.autograd.grad(
            at.loss_on(piece), at.leaves[row[0]], create_graph=twice, allow_unused=True, materialize_grads=True
        )[0]
        return (part.reshape(-1)[row[1]] * probe).sum()

    at = _shifted(point, along, 0.0)
    with torch.enable_grad():
        loss = at.loss_on(piece)
        slopes = unflatten(gradient_of(loss, list(at.leaves.values())), at.leaves)
        products = (
            slopes if row is None else unflatten(gradient_of(probed(at, True), list(at.leaves.values())), at.leaves)
        )
    size = abs(float(loss.detach())) + sum(float((slopes[name] * part).abs().sum()) for name, part in along.items())
    return Line(value, sum(float((products[name] * part).sum()) for name, part in along.items()), size)


def _size(entries: Tensor) -> float:
    """Return the mean size of entries."""
    return float(entries.detach().abs().mean())


def _nudged(point: Point, seed: int) -> Point:
    """Return the point with entries moved by their rounding."""
    signs = _signs(point.leaves, torch.Generator().manual_seed(seed))
    leaves = {
        name: (leaf.detach() * (1 + torch.finfo(leaf.dtype).eps * signs[name])).requires_grad_()
        for name, leaf in point.leaves.items()
    }
    return replace(point, leaves=leaves)


def _pieces(point: Point) -> Iterator[Batch]:
    """Yield few samples of the data at a time, from its first batches."""
    count = 0
    for batch in point.batches:
        n = batch_size(batch[0])
        places = range(0, n, max(_SAMPLES, -(-n * min(_PIECES, point.batches.count) // _PIECES)))
        for start in places:
            yield slice_batch(batch, start, min(n, start + _SAMPLES))
            count += 1
            if count == _PIECES:
                return


def _doubled(point: Point) -> Point:
    """Return the point in double precision."""
    double = lambda tensor: tensor.detach().double() if tensor.is_floating_point() else tensor
    return replace(
        point,
        leaves={name: double(leaf).requires_grad_() for name, leaf in point.leaves.items()},
        constants={name: double(tensor) for name, tensor in point.constants.items()},
        buffers={name: double(tensor) for name, tensor in point.buffers.items()},
    )


def _doubled_batch(batch: Batch) -> Batch:
    """Return a batch in double precision."""
    double = lambda tensor: tensor.double() if tensor.is_floating_point() else tensor
    return tree_map_only(Tensor, double, batch[0]), double(batch[1])


def _sentence(
    point: Point, names: Mapping[str, Tensor] | tuple[str, ...], seen: float, claimed: float, twice: bool
) -> ModelError:
    """Say which derivative is wrong, and where it comes from."""
    what = (
        "the product with the Hessian is not the derivative of the gradient"
        if twice
        else ("the gradient is not the derivative of the loss")
    )
    model = type(point.model).__name__
    where = ", ".join(f"'{name}'" for name in list(names)[:3]) + (" and others" if len(names) > 3 else "")
    found = name_custom_function(point)
    cause = (
        f"as {found} has it" if found else ("as with detach(), .data, torch.no_grad() or a hook that changes gradients")
    )
    return ModelError(
        f"{what} of {model} for {where}, where differences give {seen:.4g} and torch gives {claimed:.4g}, {cause}; "
        "replace that part by differentiable operations, since what is certified would not be the loss."
    )
