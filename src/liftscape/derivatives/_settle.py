"""Whether a derivative that disagrees with differences at first sight is wrong, in double precision on few samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from liftscape.derivatives._hessian import gradient_of, unflatten
from liftscape.derivatives._point import Point, slice_batch
from liftscape.derivatives._second_derivative import name_custom_function
from liftscape.derivatives._slope import Line, certainly_not
from liftscape.derivatives._split import moved
from liftscape.functional import MODEL_ERRORS, RandomRounding
from liftscape.outcomes import LiftscapeError, ModelError
from liftscape.samples import Batch, batch_size

__all__ = ["moved_point", "random_signs", "settle", "shifted"]

# How many samples a piece has: few enough that kinks lie far apart.
_PIECES, _SAMPLES = 6, 4
_DRAWS = 2
# Moves in per cent, and how many draws, of points far away.
_FAR, _FAR_DRAWS = 100.0, 4
# How often rounding of what torch gives is drawn.
_BLURS = 3


def settle(point: Point, direction: Mapping[str, Tensor], row: tuple[str, slice] | None, zeros: float) -> None:
    """Raise if a derivative is wrong for certain.

    Args:
        point: at which it was doubted.
        direction: along which, by parameter.
        row: the entries of the product with the direction, None for the derivative of R along it.
        zeros: as for :func:`moved_point`.

    Raises:
        ModelError: if it is.
    """
    for piece in _pieces(point):
        found = _differing(point, piece, direction, row, zeros)
        if found is not None:
            names = list(direction) if row is None else [row[0]]
            raise ModelError(_sentence(point, names, *found, row is not None))


def moved_point(point: Point, seed: int, share: float = 1.0, zeros: float = 1.0) -> Point:
    """Return a point next to the given one.

    Args:
        point: from where.
        seed: of the moves.
        share: the size of the moves, in per cent of each entry.
        zeros: how many times as far entries of zero are moved, which have no size themselves.

    Returns:
        The point.
    """
    generator = torch.Generator().manual_seed(seed)
    leaves = {}
    for name, leaf in point.leaves.items():
        start = leaf.detach()
        step = share * (moved(start, generator) - start)
        leaves[name] = (start + torch.where(start == 0, zeros * step, step)).requires_grad_()
    return replace(point, leaves=leaves)


def random_signs(leaves: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Return a random sign for each entry."""
    draw = lambda leaf: 2.0 * torch.randint(0, 2, leaf.shape, generator=generator) - 1.0
    return {name: draw(leaf).to(leaf) for name, leaf in leaves.items()}


def shifted(point: Point, direction: Mapping[str, Tensor], step: float) -> Point:
    """Return the point moved along a direction."""
    leaves = {
        name: (leaf.detach() + step * direction[name] if name in direction else leaf.detach()).requires_grad_()
        for name, leaf in point.leaves.items()
    }
    return replace(point, leaves=leaves)


def _differing(
    point: Point, piece: Batch, direction: Mapping[str, Tensor], row: tuple[str, slice] | None, zeros: float
) -> tuple[float, float] | None:
    """Return difference and derivative on a piece of the data where all draws of the point disagree, else None."""
    found = None
    double = _doubled(point)
    try:
        for seed in range(1, 1 + _DRAWS):
            line = _line(moved_point(double, seed, zeros=zeros), _doubled_batch(piece), direction, row, seed)
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
    signs = random_signs(point.leaves, torch.Generator().manual_seed(seed))
    # The same sizes as in the direction, with other signs.
    along = {name: signs[name] * part.abs() for name, part in direction.items()}
    probe = None if row is None else signs[row[0]].reshape(-1)[row[1]] * _size(point.leaves[row[0]].reshape(-1)[row[1]])

    def value(shift: float, nudge: int = 0) -> float:
        there = shifted(point, along, shift)
        if not nudge:
            return value_at(there)
        with RandomRounding(nudge):
            return value_at(_nudged(there, nudge))

    def value_at(at: Point) -> float:
        if row is None:
            with torch.no_grad():
                return float(at.loss_on(piece))
        with torch.enable_grad():
            return float(probed(at, False).detach())

    def probed(at: Point, twice: bool) -> Tensor:
        assert row is not None
        assert probe is not None
        part = torch.autograd.grad(
            at.loss_on(piece), at.leaves[row[0]], create_graph=twice, allow_unused=True, materialize_grads=True
        )[0]
        return (part.reshape(-1)[row[1]] * probe).sum()

    def slopes_at(at: Point, twice: bool) -> dict[str, Tensor]:
        with torch.enable_grad():
            of = probed(at, True) if twice else at.loss_on(piece)
            return unflatten(gradient_of(of, list(at.leaves.values())), at.leaves)

    def claimed(products: Mapping[str, Tensor]) -> float:
        return sum(float((products[name] * part).sum()) for name, part in along.items())

    at = shifted(point, along, 0.0)
    slopes, products = slopes_at(at, False), slopes_at(at, row is not None)
    claim = claimed(products)

    def blur() -> float:
        largest = 0.0
        for seed in range(_BLURS):
            with RandomRounding(seed):
                largest = max(largest, abs(claimed(slopes_at(at, row is not None)) - claim))
        return largest

    # Far from here, since a saturated loss is rounded as if it were as large as it is there.
    sizes = [abs(value_at(each)) for each in _far_points(point)]
    size = max((each for each in sizes if isfinite(each)), default=0.0)
    size += abs(_loss(at, piece)) + sum(float((slopes[name] * part).abs().sum()) for name, part in along.items())
    return Line(value, claim, size, blur)


def _loss(point: Point, piece: Batch) -> float:
    """Return R on few samples."""
    with torch.no_grad():
        return float(point.loss_on(piece))


def _far_points(point: Point) -> Iterator[Point]:
    """Yield points whose entries are of the same size, and with other signs."""
    for seed in range(_FAR_DRAWS):
        far = moved_point(point, seed, _FAR)
        yield far
        signs = random_signs(far.leaves, torch.Generator().manual_seed(seed))
        leaves = {name: (leaf.detach() * signs[name]).requires_grad_() for name, leaf in point.leaves.items()}
        yield replace(point, leaves=leaves)


def _size(entries: Tensor) -> float:
    """Return the mean size of entries."""
    return float(entries.detach().abs().mean())


def _nudged(point: Point, seed: int) -> Point:
    """Return the point with entries moved by their rounding."""
    signs = random_signs(point.leaves, torch.Generator().manual_seed(seed))
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


def _sentence(point: Point, names: Sequence[str], seen: float, claimed: float, twice: bool) -> str:
    """Say which derivative is wrong, and where it comes from."""
    of_gradient = "the product with the Hessian is not the derivative of the gradient"
    what = of_gradient if twice else "the gradient is not the derivative of the loss"
    where = ", ".join(f"'{name}'" for name in names[:3]) + (" and others" if len(names) > 3 else "")
    found = name_custom_function(point)
    hidden = "with detach(), .data, torch.no_grad() or a hook that changes gradients"
    cause = hidden if found is None else f"{found} has it"
    return (
        f"{what} of {type(point.model).__name__} for {where}, where differences give {seen:.4g} and torch gives "
        f"{claimed:.4g}, as {cause}; replace that part by differentiable operations, since what is certified would not "
        "be the loss."
    )
