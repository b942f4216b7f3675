"""Plateaus of a training, by a stated rule, and the critical points that they match."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import final

from jaxtyping import Float
from torch import Tensor

__all__ = ["Level", "Plateau", "find_plateaus", "longest_plateau", "match"]


@final
@dataclass(frozen=True)
class Plateau:
    """A stretch of a training over which the loss hardly falls.

    Attributes:
        first: index of its first record.
        last: index of its last record.
    """

    first: int
    last: int

    @property
    def middle(self) -> int:
        """Index of the record in its middle."""
        return (self.first + self.last) // 2


@final
@dataclass(frozen=True)
class Level:
    """A critical point of a shallow network.

    Attributes:
        name: the network and the point's place among those found.
        value: its loss.
        outputs: on the data, (n, outputs).
    """

    name: str
    value: float
    outputs: Tensor


def find_plateaus(losses: Float[Tensor, " T"], flat: float, length: int) -> list[Plateau]:
    """Return the maximal stretches over which the loss falls by at most a share, and that are long enough.

    Taken greedily from the left: a stretch begins at the first record not yet covered from which the loss stays above
    (1 − flat) of its value for the length asked for, and ends where it no longer does.

    Source: the rule of the study `depth-dynamics`.

    Args:
        losses: of one training, evenly spaced in steps.
        flat: the largest relative fall.
        length: the fewest records.

    Returns:
        The plateaus, from left to right, disjoint.

    Example:
        >>> import torch
        >>> find_plateaus(torch.tensor([9.0, 5.0, 5.0, 5.0, 1.0, 1.0, 1.0]), 0.01, 3)
        [Plateau(first=1, last=3), Plateau(first=4, last=6)]
    """
    found, start, values = [], 0, losses.tolist()
    while start <= len(values) - length:
        low, high = (1 - flat) * values[start], (1 + flat) * values[start]
        end = start
        while end + 1 < len(values) and low <= values[end + 1] <= high:
            end += 1
        if end - start + 1 >= length:
            found.append(Plateau(start, end))
            start = end + 1
        else:
            start += 1
    return found


def longest_plateau(steps: Sequence[int], losses: Sequence[float], flat: float) -> int:
    """Return the step in the middle of the longest stretch of log steps over which the loss falls by a share at most.

    Args:
        steps: ascending.
        losses: one for each.
        flat: the share.

    Returns:
        One of the steps.

    Example:
        >>> longest_plateau([0, 1, 10, 100, 1000], [2.3, 2.0, 1.0, 1.0, 0.99], 0.03)
        100
    """
    best, found = -1.0, len(steps) - 1
    for first in range(len(steps)):
        last = first
        while last + 1 < len(steps) and losses[last + 1] >= (1 - flat) * losses[first]:
            last += 1
        length = log((steps[last] + 1) / (steps[first] + 1))
        if length > best:
            best, found = length, (first + last) // 2
    return steps[found]


def match(
    value: float,
    outputs: Tensor,
    levels: Sequence[Level],
    loss_tolerance: float,
    output_tolerance: float,
    spread: float,
) -> str:
    """Return the name of the critical point that a plateau matches best, "" for none.

    Args:
        value: the loss on the plateau.
        outputs: there, on the data.
        levels: the critical points.
        loss_tolerance: the largest relative difference of the loss.
        output_tolerance: the largest root mean square difference of the outputs, as a share of the spread.
        spread: the targets' standard deviation.

    Returns:
        The name of the nearest in outputs among those that are near enough.
    """
    best, name = output_tolerance, ""
    for level in levels:
        distance = float((outputs - level.outputs).square().mean().sqrt()) / spread
        if abs(value - level.value) <= loss_tolerance * level.value and distance <= best:
            best, name = distance, level.name
    return name
