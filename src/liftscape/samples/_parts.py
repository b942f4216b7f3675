"""The outputs and targets of two batches as those of one, wherever the axis of samples is."""

from typing import Any

import torch
from torch import Tensor

from liftscape.functional import map_tensors, named_tensors

__all__ = ["Part", "join_parts"]

# Outputs and targets.
Part = tuple[Any, Tensor]


def join_parts(first: Part, second: Part) -> Part | None:
    """Return the outputs and targets of two parts of the data as those of one batch, None where they do not fit.

    Args:
        first: outputs and targets.
        second: likewise.

    Returns:
        Those of both, tensors that are the same for all samples once.

    Example:
        >>> one, two = ((torch.full((3, n), float(n)), torch.zeros(n)) for n in (1, 2))
        >>> [part.shape for part in join_parts(one, two) or ()]
        [torch.Size([3, 3]), torch.Size([3])]
    """
    if first[1].shape[1:] != second[1].shape[1:]:
        return None
    sizes = len(first[1]), len(second[1])
    tensors, others = named_tensors(first[0]), named_tensors(second[0])
    if tensors.keys() != others.keys():
        return None
    found = [_join_tensors(tensors[name], others[name], sizes) for name in tensors]
    pairs = [pair for pair in found if pair is not None]
    if len(pairs) < len(found):
        return None
    in_order = iter(pairs)
    return map_tensors(lambda _: next(in_order), second[0]), torch.cat([first[1], second[1]])


def _join_tensors(first: Tensor, second: Tensor, sizes: tuple[int, int]) -> Tensor | None:
    """Return two tensors along the axis of samples, which is the one in which they differ."""
    if first.ndim != second.ndim:
        return None
    differ = [axis for axis in range(first.ndim) if first.shape[axis] != second.shape[axis]]
    if not differ:
        by_sample = sizes[0] == sizes[1] and first.ndim > 0 and len(first) % sizes[0] == 0
        if torch.equal(first, second):
            # The same for all samples, unless two samples just happen to be equal.
            return None if by_sample else second
        differ = [0] if by_sample else []
    if len(differ) != 1 or first.shape[differ[0]] * sizes[1] != second.shape[differ[0]] * sizes[0]:
        return None
    return torch.cat([first, second], dim=differ[0])
