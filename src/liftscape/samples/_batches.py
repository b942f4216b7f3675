"""The samples S as a re-iterable of batches, checked once before anything is computed from them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from liftscape.outcomes import DataError
from liftscape.samples._fingerprint import Fingerprint, Reading, fingerprint, read_batch, unlike
from liftscape.samples._sparse import dense_parts

__all__ = ["Batch", "Batches", "as_batches"]

Batch = tuple[Any, Tensor]

_STEADY = {
    "targets": "such as a DataLoader with drop_last=False",
    "inputs": "without augmentation or noise that is drawn anew",
}


@dataclass(frozen=True)
class Batches:
    """A re-iterable of (inputs, targets) with the number of samples and of batches counted beforehand.

    Attributes:
        source: what the caller gave; it is read again for every evaluation and never copied.
        samples: the number n of samples.
        count: the number of batches.
        largest: the most samples of a batch.
        widest: the most numbers that the inputs of one sample hold.
        fingerprint: of all samples; None where they are held as a whole, and so are the same at each reading.
    """

    source: Any
    samples: int
    count: int
    largest: int
    widest: float
    fingerprint: Fingerprint | None

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in the order of their source, or raise at its end if it gave other samples."""
        first = self.fingerprint
        if first is None:
            yield from _iterate(self.source)
            return
        seen = 0
        readings: list[Reading] = []
        pending = iter(_iterate(self.source))
        while True:
            # Modes that look at or move the numbers of a computation are not meant for the data.
            with _disable_current_modes():
                batch = next(pending, None)
                if batch is None:
                    break
                seen += _check_shapes(batch, len(readings))
                # Numbers without their places are compared only where shapes vary.
                readings.append(read_batch(*batch, numbers=len(first.shapes) > 1))
            yield batch
        if seen == 0:
            raise DataError(
                f"data must be readable many times, but this {type(self.source).__name__} can be read only once and "
                "then holds no batch; pass (inputs, targets), a list of batches or a DataLoader."
            )
        if seen != self.samples:
            # Batches weigh by their share of all samples, so that the weights would no longer add up to one.
            raise DataError(
                f"data must stay the same, but this {type(self.source).__name__} gave {seen} samples where it gave "
                f"{self.samples} when first read; give a source that yields the same samples each time."
            )
        other = unlike(first, fingerprint(readings))
        if other is not None:
            raise DataError(
                f"data must stay the same, but this {type(self.source).__name__} gave other {other} than when first "
                f"read; give a source that yields the same samples each time, {_STEADY[other]}."
            )


def as_batches(data: Any) -> Batches:
    """Check the data in one pass and wrap it as re-iterable batches.

    Args:
        data: ``(inputs, targets)``, or a re-iterable of such batches.

    Returns:
        The wrapped source.

    Raises:
        DataError: if the source can be read only once, is empty, holds NaN or inf, or lengths differ.

    Example:
        >>> as_batches((torch.zeros(10, 3), torch.zeros(10, 1))).samples
        10
    """
    if isinstance(data, Iterator):
        raise DataError(
            f"data must be readable many times, but a one-shot {type(data).__name__} was given; "
            "pass (inputs, targets), a list of batches or a DataLoader."
        )
    if not isinstance(data, Iterable):
        raise DataError(f"data must be (inputs, targets) or a re-iterable of such batches, but {data!r} was given.")
    samples = count = largest = 0
    widest = 0.0
    readings: list[Reading] = []
    held = _is_held(data)
    empty: int | None = None
    for index, batch in enumerate(_iterate(data)):
        size = _check_batch(batch, index)
        empty = index if size == 0 else empty
        samples += size
        count += 1
        largest = max(largest, size)
        widest = max(widest, sample_width(batch[0]))
        if not held:
            readings.append(read_batch(*batch))
    if samples == 0:
        raise DataError("data holds no samples; give at least one (inputs, targets) batch with one sample.")
    if empty is not None:
        # The mean loss of no samples is not a number, whatever its weight.
        raise DataError(f"batch {empty} of {count} holds no samples; leave it out.")
    return Batches(data, samples, count, largest, widest, None if held else fingerprint(readings))


def batch_size(inputs: Any) -> int:
    """Return the length of the first axis of the first tensor among the inputs."""
    return next(leaf.shape[0] for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor))


def sample_width(inputs: Any) -> float:
    """Return how many numbers the inputs of one sample hold."""
    return sum(leaf.numel() for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)) / max(1, batch_size(inputs))


def _is_pair(data: Any) -> bool:
    """Tell one (inputs, targets) pair from a sequence of such pairs."""
    return isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[1], Tensor)


def _is_held(data: Any) -> bool:
    """Tell whether all tensors of the data are at hand, in containers that make nothing when they are read."""
    if isinstance(data, Tensor):
        return True
    if type(data) is dict:
        return all(map(_is_held, data.values()))
    if isinstance(data, (tuple, list)) and (type(data) in {tuple, list} or hasattr(data, "_fields")):
        return all(map(_is_held, data))
    return data is None or isinstance(data, (bool, int, float, str, bytes))


def _iterate(source: Any) -> Iterator[Batch]:
    """Yield the one pair, or the batches of the re-iterable."""
    for batch in [source] if _is_pair(source) else source:
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[1], Tensor)):
            raise DataError(
                f"each batch must be (inputs, targets) with a tensor of targets, but {type(batch).__name__} was given."
            )
        inputs, targets = batch
        # Mappings of other libraries, such as a tokeniser's, are not seen through by torch's tree functions.
        yield dict(inputs) if isinstance(inputs, Mapping) else inputs, targets.detach()


def _check_shapes(batch: Batch, index: int) -> int:
    """Raise if the tensors of one batch are not of equal length, else return its number of samples."""
    inputs, targets = batch
    leaves = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    if not leaves or any(leaf.ndim == 0 for leaf in (*leaves, targets)):
        raise DataError(f"inputs and targets of batch {index} must be tensors with a first axis of samples.")
    for name, tensor in _named(batch):
        if tensor.shape[0] != leaves[0].shape[0]:
            raise DataError(
                f"inputs and targets must have equal length, but batch {index} has inputs of shape "
                f"{tuple(leaves[0].shape)} and {name} of shape {tuple(tensor.shape)}."
            )
        if tensor.is_meta:
            raise DataError(f"{name} of batch {index} are on the meta device, where they hold no numbers.")
    return int(leaves[0].shape[0])


def _check_batch(batch: Batch, index: int) -> int:
    """Raise if one batch is malformed or not finite, else return its number of samples."""
    size = _check_shapes(batch, index)
    for name, tensor in _named(batch):
        entries = dense_parts(tensor)[0]
        if entries.is_floating_point() and not bool(torch.isfinite(entries).all()):
            where = tuple(torch.nonzero(~torch.isfinite(entries))[0].tolist())
            raise DataError(
                f"{name} of batch {index} hold {entries[where].item()} at index {where}; remove or impute such samples."
            )
    return size


def _named(batch: Batch) -> list[tuple[str, Tensor]]:
    """Return the tensors of a batch with what a sentence calls them."""
    inputs = [("inputs", leaf) for leaf in tree_leaves(batch[0]) if isinstance(leaf, Tensor)]
    return [*inputs, ("targets", batch[1])]
