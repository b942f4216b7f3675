"""What is remembered of targets, so that a later reading can tell whether they are the same samples in any order."""

from collections.abc import Iterable
from math import fsum, sqrt

import torch
from torch import Tensor

from liftscape.risk._sparse import dense_parts

__all__ = ["fingerprint", "sums_of", "unlike"]

# Sums in double precision in another order differ by less.
_ROUNDING = 1e-12


def sums_of(targets: Tensor) -> Tensor:
    """Return how many numbers the targets of a batch hold, their sum and that of their squares.

    Args:
        targets: of numbers of any kind.

    Returns:
        Three numbers, where the targets are, so that no accelerator has to be waited for.
    """
    entries = dense_parts(targets)[0]
    if entries.device.type == "mps":
        # Has no double precision.
        entries = entries.cpu()
    numbers = (torch.view_as_real(entries.resolve_conj()) if entries.is_complex() else entries).double()
    return torch.stack([torch.full_like(numbers.sum(), numbers.numel()), numbers.sum(), numbers.square().sum()])


def fingerprint(sums: Iterable[Tensor]) -> tuple[float, ...]:
    """Return the sums over all batches.

    Args:
        sums: of each batch, at least one.

    Returns:
        Count, sum and sum of squares.
    """
    return tuple(fsum(column) for column in zip(*(part.tolist() for part in sums), strict=True))


def unlike(first: tuple[float, ...], later: tuple[float, ...]) -> bool:
    """Tell whether two readings gave different targets for certain.

    Readings of different length as numbers are not compared: padding to the longest of a batch differs where the
    samples are the same.

    Args:
        first: a fingerprint.
        later: another one.

    Returns:
        Whether no rounding explains their difference.
    """
    (count, total, squares), (count_later, total_later, squares_later) = first, later
    if count != count_later:
        return False
    same = abs(squares_later - squares) <= _ROUNDING * squares
    return not (same and abs(total_later - total) <= _ROUNDING * sqrt(count * squares))
