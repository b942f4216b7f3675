"""Batches of inputs, however they are given."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from liftscape.outcomes import DataError

__all__ = ["Head", "first_batch", "head_of", "iterate_inputs"]


@dataclass(frozen=True)
class Head:
    """The start of the data, read once, since a source may be slow to open.

    Attributes:
        first: the inputs of the first batch.
        several: whether there is a second one.
    """

    first: Any
    several: bool

    @property
    def batches(self) -> list[tuple[Any, None]]:
        """The first batch as data of its own."""
        return [(self.first, None)]


def head_of(inputs: Any) -> Head:
    """Read the start of the data.

    Args:
        inputs: as for :func:`iterate_inputs`, or a head that was read before.

    Returns:
        The head.

    Raises:
        DataError: if there is no batch.
    """
    if isinstance(inputs, Head):
        return inputs
    batches = iterate_inputs(inputs)
    for first in batches:
        return Head(first, next(batches, None) is not None)
    raise DataError("inputs hold no batch; give at least one.")


def first_batch(inputs: Any) -> Any:
    """Return the inputs of the first batch.

    Args:
        inputs: as for :func:`iterate_inputs`, or a head that was read before.

    Returns:
        One batch.

    Raises:
        DataError: if there is none.
    """
    if isinstance(inputs, Head):
        return inputs.first
    for batch in iterate_inputs(inputs):
        return batch
    raise DataError("inputs hold no batch; give at least one.")


def iterate_inputs(inputs: Any) -> Iterator[Any]:
    """Yield batches of inputs from a tensor, an (inputs, targets) pair, or a re-iterable of either.

    Args:
        inputs: a tensor or mapping (one batch), a pair, or a re-iterable of batches or pairs.

    Yields:
        The inputs of each batch.

    Raises:
        DataError: if the source can be read only once, or a batch is empty or holds NaN or infinity.
    """
    if isinstance(inputs, (Tensor, Mapping)):
        yield _checked(inputs)
    elif isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[1], Tensor):
        yield _checked(inputs[0])
    elif isinstance(inputs, Iterable) and not isinstance(inputs, Iterator):
        for batch in inputs:
            yield _checked(batch[0] if isinstance(batch, (tuple, list)) else batch)
    else:
        raise DataError(
            f"inputs must be a tensor, (inputs, targets) or a re-iterable of batches, but {type(inputs).__name__} "
            "was given."
        )


def _checked(batch: Any) -> Any:
    """Return a batch, or raise if it is a tensor without samples or with a number that is not finite."""
    if isinstance(batch, Tensor) and batch.numel() == 0:
        raise DataError(f"inputs of shape {tuple(batch.shape)} hold no samples; give at least one.")
    if isinstance(batch, Tensor) and batch.is_meta:
        raise DataError(f"inputs of shape {tuple(batch.shape)} are on the meta device, where they hold no numbers.")
    if isinstance(batch, Tensor) and batch.is_floating_point() and not bool(torch.isfinite(batch).all()):
        index = tuple(torch.nonzero(~torch.isfinite(batch))[0].tolist())
        raise DataError(f"inputs of shape {tuple(batch.shape)} are not finite at index {index}; clean the data first.")
    return batch
