"""Whether batches may be worked off in pieces: the loss of each must be the weighted mean of its pieces' losses."""

from dataclasses import replace
from math import isfinite, nan

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.derivatives._point import Point, pieces_of
from liftscape.functional import MODEL_ERRORS, map_tensors, named_tensors
from liftscape.outcomes import LiftscapeError
from liftscape.samples import Batch, batch_size

__all__ = ["may_split", "moved"]

# Sums of a batch in another order differ by this many units in the last place, which in half precision would hide any
# difference: there losses are summed in single precision and may differ by this share, a thousand times the most that
# was measured; where pieces are no mean, the Hessian errs by ten to sixty times what the loss does.
_ROUNDING, _MOST = 100.0, 1e-4
_SINGLE = 4


def may_split(point: Point, size: int) -> bool:
    """Tell whether ℓ_b = Σ_c (n_c / n_b) ℓ_c for all batches b and their pieces c, by one pass over whole and pieces.

    Evaluated next to the point, since at a perfect fit every loss vanishes, and the values agree by chance nowhere else
    if they do there; at the point itself where the losses next to it are not finite.

    Args:
        point: whose batches they are.
        size: the most samples of a piece.

    Returns:
        Whether the risk of these pieces is the risk.

    Raises:
        LiftscapeError: if the model or the loss refuses a whole batch.
    """
    training = any(
        isinstance(m, _BatchNorm) and mode for m, mode in zip(point.model.modules(), point.modes, strict=True)
    )
    if training:
        return False
    generator = torch.Generator().manual_seed(0)
    nearby = replace(point, leaves={name: moved(tensor, generator) for name, tensor in point.leaves.items()})
    with torch.no_grad():
        return all(_is_mean_of_pieces((nearby, point), batch, size) for batch in point.batches)


def _is_mean_of_pieces(points: tuple[Point, ...], batch: Batch, size: int) -> bool:
    """Compare a batch with its pieces, up to rounding, at the first point where the losses are finite."""
    if batch_size(batch[0]) <= size:
        return True
    for point in points:
        values = _values(point, batch, size)
        if all(map(isfinite, values)):
            whole, *parts = values
            rounding = min(_MOST, _ROUNDING * torch.finfo(next(iter(point.leaves.values())).dtype).eps)
            return abs(whole - sum(parts)) <= rounding * max(abs(whole), sum(map(abs, parts)))
    return False


def _values(point: Point, batch: Batch, size: int) -> list[float]:
    """Return the loss of a batch and the shares of its pieces, NaN where the model or the loss refuses one."""
    try:
        whole = _loss_of(point, batch)
    except LiftscapeError:
        raise
    except MODEL_ERRORS:
        return [nan]
    n = batch_size(batch[0])
    try:
        return [whole, *(_loss_of(point, piece) * batch_size(piece[0]) / n for piece in pieces_of(batch, size))]
    except MODEL_ERRORS:
        return [nan]


def _loss_of(point: Point, batch: Batch) -> float:
    """Return the loss, in single precision at least where it allows that."""
    output, targets = point.call(batch[0]), batch[1]
    tensors = [*named_tensors(output).values(), targets]
    if any(_widened(tensor) is not tensor for tensor in tensors):
        try:
            return float(point.loss(map_tensors(_widened, output), _widened(targets)))
        except MODEL_ERRORS:
            pass  # a loss with weights of its own in half precision
    return float(point.loss(output, targets))


def _widened(tensor: Tensor) -> Tensor:
    """Return numbers of half precision in single precision, and others as they are."""
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < _SINGLE else tensor


def moved(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return a parameter moved by about one per cent of each entry, so that what is positive stays so.

    Args:
        tensor: the parameter.
        generator: draws the moves.

    Returns:
        A new tensor.
    """
    tensor = tensor.detach()
    draw = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)
    mean = float(tensor.abs().mean()) if tensor.numel() else 0.0
    # Zeros have no scale of their own; upwards, where roots and logarithms exist.
    size = torch.where(tensor == 0, draw.abs() * (mean or 1.0), tensor * draw)
    return tensor + 1e-2 * size
