"""Whether batches may be worked off in pieces: the loss of each must be the weighted mean of its pieces' losses."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.outcomes import LiftscapeError
from liftscape.risk._batches import Batch, batch_size
from liftscape.risk._inputs import MODEL_ERRORS
from liftscape.risk._point import Point, pieces_of

__all__ = ["may_split"]

# Sums of a batch in another order differ by this many units in the last place.
_ROUNDING = 100.0


def may_split(point: Point, size: int) -> bool:
    """Tell whether ℓ_b = Σ_c (n_c / n_b) ℓ_c for all batches b and their pieces c, by one pass over whole and pieces.

    Evaluated next to the point, since at a perfect fit every loss vanishes, and the values agree by chance nowhere else
    if they do there.

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
    moved = replace(point, leaves={name: _move(tensor, generator) for name, tensor in point.leaves.items()})
    with torch.no_grad():
        return all(_is_mean_of_pieces(moved, batch, size) for batch in point.batches)


def _is_mean_of_pieces(point: Point, batch: Batch, size: int) -> bool:
    """Compare a batch with its pieces, up to rounding."""
    n = batch_size(batch[0])
    if n <= size:
        return True
    try:
        whole = float(point.loss_on(batch))
    except LiftscapeError:
        raise
    except MODEL_ERRORS:
        return False
    try:
        parts = [float(point.loss_on(piece)) * batch_size(piece[0]) / n for piece in pieces_of(batch, size)]
    except MODEL_ERRORS:
        return False
    eps = torch.finfo(next(iter(point.leaves.values())).dtype).eps
    return abs(whole - sum(parts)) <= _ROUNDING * eps * max(abs(whole), sum(map(abs, parts)))


def _move(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return a parameter moved by about one per cent."""
    draw = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    return (tensor + (1e-2 * (1 + tensor.abs().mean()) * draw.to(tensor))).detach()
