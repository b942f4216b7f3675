"""Values and gradients of a risk at several points, in one reading of the data."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from liftscape.derivatives._hessian import flatten, gradient_of
from liftscape.derivatives._point import Point

__all__ = ["read_at_points"]


def read_at_points(
    point: Point,
    size: int | None,
    valued: Sequence[Callable[[], Point]],
    differentiated: Sequence[Callable[[], Point]],
) -> tuple[list[float], list[Tensor]]:
    """Return R at some points and ∇R at others, all of one model, loss and data.

    Points are made for each piece of the data and dropped again, so that their parameters are in memory one at a time.

    Args:
        point: whose data are read.
        size: the most samples of a piece; None for the batches as they are.
        valued: make the points at which R is wanted.
        differentiated: make those at which ∇R is wanted.

    Returns:
        The values, and the gradients as vectors.
    """
    terms: list[list[Tensor]] = [[] for _ in valued]
    gradients = [torch.zeros_like(flatten(point.leaves).detach()) for _ in differentiated]
    for batch, weight in point.chunks(size):
        with torch.no_grad():
            for found, make in zip(terms, valued, strict=True):
                found.append((make().loss_on(batch) * weight).detach())
        with torch.enable_grad():
            for gradient, make in zip(gradients, differentiated, strict=True):
                at = make()
                gradient += gradient_of(at.loss_on(batch) * weight, list(at.leaves.values()))
    return [float(torch.stack(found).sum()) for found in terms], gradients
