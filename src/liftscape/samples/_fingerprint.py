"""What is remembered of a reading, so that a later one can tell whether it gave the same samples in any order."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["Fingerprint", "Reading", "fingerprint", "read_batch", "unlike"]

# Odd numbers without a pattern, of splitmix64, as signed integers.
_LONG, _LONGER = -0x40A7B892E31B1A47, -0x61C8864680B583EB
# Numbers hashed at once, so that their hashes stay in the cache of a processor, or take little of an accelerator.
_CHUNK, _CHUNK_OF_ACCELERATOR = 1 << 17, 1 << 22
_NARROW = {1: torch.int8, 2: torch.int16}

Shapes = tuple[tuple[int, ...], ...]


@final
@dataclass(frozen=True)
class Reading:
    """What one batch leaves behind.

    Attributes:
        shapes: of one sample, for each tensor.
        samples: how many.
        sums: integers where the tensors are, so that no accelerator has to be waited for: the sum over samples of a
            hash of all their numbers by place, the sum of a hash of each number, whatever its place, and both of the
            targets alone.
    """

    shapes: Shapes
    samples: int
    sums: Tensor


@final
@dataclass(frozen=True)
class Fingerprint:
    """What all batches of a reading leave behind, whatever their order and that of the samples.

    Attributes:
        shapes: how many samples have which shapes.
        sums: as in :class:`Reading`.
    """

    shapes: dict[Shapes, int]
    sums: tuple[int, ...]


def read_batch(inputs: Any, targets: Tensor, numbers: bool = True) -> Reading:
    """Return what is remembered of a batch.

    Hashes are sums of integers modulo a power of two, so that another order gives the same to the last bit. Inputs and
    targets of a sample are hashed together.

    Source: multiply-shift hashing, Dietzfelbinger et al. 1997; the mixing is half of splitmix64's, Steele et al. 2014.

    Args:
        inputs: a tensor, or a nesting of tensors with a first axis of samples.
        targets: likewise.
        numbers: whether numbers are hashed whatever their place as well; their sum is zero otherwise.

    Returns:
        Shapes and sums.

    Example:
        >>> x, y = torch.arange(12.0).reshape(4, 3), torch.zeros(4, 1)
        >>> first, other, flipped = (read_batch(z, y).sums for z in (x, x.flip(0), x.flip(1)))
        >>> (other == first).tolist(), (flipped == first).tolist()
        ([True, True, True, True], [False, True, True, True])
    """
    leaves = [*(leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)), targets]
    by_place = torch.zeros(len(targets), dtype=torch.int64, device=targets.device)
    by_number = torch.zeros((), dtype=torch.int64, device=targets.device)
    placed, sum_of_numbers = by_place, by_number
    for leaf in leaves:
        # A product with an odd number between them, so that leaves do not change places.
        placed, sum_of_numbers = _hashes(leaf.detach(), numbers)
        by_place = by_place.mul_(_LONGER).add_(placed.to(by_place.device))
        by_number = by_number.mul_(_LONGER).add_(sum_of_numbers.to(by_place.device))
    shapes = tuple(tuple(leaf.shape[1:]) for leaf in leaves)
    return Reading(
        shapes, len(targets), torch.stack([_mixed(by_place).sum(), by_number, _mixed(placed).sum(), sum_of_numbers])
    )


def fingerprint(readings: Iterable[Reading]) -> Fingerprint:
    """Return what all batches leave behind.

    Args:
        readings: of each batch, at least one.

    Returns:
        The sums over all batches.
    """
    known = list(readings)
    shapes: Counter[Shapes] = Counter()
    for reading in known:
        shapes[reading.shapes] += reading.samples
    sums = torch.stack([reading.sums.to(known[0].sums.device) for reading in known]).sum(dim=0)
    return Fingerprint(dict(shapes), tuple(sums.tolist()))


def unlike(first: Fingerprint, later: Fingerprint) -> str | None:
    """Name what differed for certain between two readings.

    Where batches are padded to their longest sample, readings with other shapes are not compared, and in those with the
    same shapes numbers are, whatever their place, since another sample may have been the longest.

    Args:
        first: a fingerprint.
        later: another one.

    Returns:
        "targets" or "inputs"; None where they may be the same samples.
    """
    if first.shapes != later.shapes:
        return None
    kind = 0 if len(first.shapes) == 1 else 1
    if first.sums[2 + kind] != later.sums[2 + kind]:
        return "targets"
    return "inputs" if first.sums[kind] != later.sums[kind] else None


def _hashes(tensor: Tensor, numbers: bool) -> tuple[Tensor, Tensor]:
    """Return a hash of each sample by place, and the sum of hashes of all numbers, zero unless asked for."""
    if tensor.layout is not torch.strided:
        return _sparse_hashes(tensor, numbers)
    if tensor.device.type == "mps":
        # Has no double precision to be seen as integers.
        tensor = tensor.cpu()
    words = _words(tensor)
    by_place, by_number = (torch.zeros(size, dtype=torch.int64, device=words.device) for size in ((len(words),), ()))
    limit = _CHUNK if words.device.type == "cpu" else _CHUNK_OF_ACCELERATOR
    width = max(1, min(limit, words.shape[1]))
    height = max(1, limit // width)
    for left in range(0, words.shape[1], width):
        columns = words[:, left : left + width]
        weights = _weights_from(left, columns.shape[1], words.device)
        for top in range(0, len(words), height):
            # Round numbers differ in their upper bits alone, which a product would keep there.
            part = columns[top : top + height]
            part = (part >> 15).bitwise_xor_(part)
            if numbers:
                by_number += _mixed(part.long()).sum()
            by_place[top : top + height] += part.mul_(weights).sum(dim=1, dtype=torch.int32)
    return by_place, by_number


def _sparse_hashes(tensor: Tensor, numbers: bool) -> tuple[Tensor, Tensor]:
    """Return the hashes of a sparse tensor, those of entries that it does not hold being zero."""
    entries = tensor if tensor.layout is torch.sparse_coo else tensor.to_sparse_coo()
    indices, values = entries._indices(), entries._values()
    places = torch.zeros_like(indices[0])
    for axis in indices[1:]:
        places = _mixed(places * _LONGER + axis)
    # What an entry holds is hashed as one sample.
    of_values, by_number = _hashes(values, numbers) if len(values) else (places, places.sum())
    by_place = places.new_zeros(len(tensor)).index_add_(0, indices[0], of_values * (2 * places + 1))
    return by_place, by_number


def _words(tensor: Tensor) -> Tensor:
    """Return the bits of numbers as integers of 32 bits, one row for each sample."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    rows = tensor.resolve_neg().reshape(len(tensor), prod(tensor.shape[1:])).contiguous()
    narrow = _NARROW.get(rows.element_size())
    return rows.view(torch.int32) if narrow is None else rows.view(narrow).int()


@lru_cache(maxsize=8)
def _weights_from(first: int, count: int, device: torch.device) -> Tensor:
    """Return an odd factor of 32 bits for each place."""
    return (_mixed(torch.arange(first, first + count, device=device) * _LONGER + 1) | 1).int()


def _mixed(integers: Tensor) -> Tensor:
    """Return other integers, each bit of which depends on many."""
    integers = (integers ^ (integers >> 30)) * _LONG
    return integers ^ (integers >> 31)
