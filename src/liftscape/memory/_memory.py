"""What the graph of a product takes in memory, measured on few samples beforehand, and the plan that fits a budget."""

import os
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path

import torch
from torch import Tensor

from liftscape.derivatives import GradientGraph, Point, may_split, slice_batch
from liftscape.functional import MODEL_ERRORS
from liftscape.memory._growth_of_bytes import Growth, growth_through
from liftscape.memory._saved_tensors import saved_bytes
from liftscape.operators import Plan
from liftscape.outcomes import ModelError
from liftscape.samples import Batch, Batches, batch_size, sample_width

__all__ = ["GraphCost", "measure_cost", "plan_products"]

_DEFAULT_BUDGET = 2 * 2**30
# The product by leaf, and as one vector.
_VECTORS = 2
# Two numbers of samples tell a constant part from one that grows with each sample, a third one what grows faster.
_FEW = (1, 2, 4)
# Of a batch of more than this many samples it is this share of them, or as many as save these bytes, since what is
# extrapolated further is less certain.
_MANY, _SHARE, _SHARE_BYTES = 64, 32, 4 * 2**20
# Above this size of a graph several vectors at once are slower than one after the other.
_VECTORISED = 2 * 2**20
_COLUMNS = 64


@dataclass(frozen=True)
class GraphCost:
    """The bytes that products take: saved tensors, and the cotangents that a backward pass adds to them.

    Attributes:
        saved: by a graph.
        transient: of passing cotangents.
        vectors: of the vectors of M entries that a product holds.
    """

    saved: Growth
    transient: Growth
    vectors: int

    def product(self, samples: int) -> float:
        """Return the bytes of one product whose graph is built from so many samples.

        Args:
            samples: of the largest piece.

        Returns:
            Bytes.
        """
        return self.kept(samples, 1, samples)

    def kept(self, samples: int, batches: int, largest: int) -> float:
        """Return the bytes of products with all graphs kept.

        Args:
            samples: of all batches.
            batches: number of graphs.
            largest: samples of the largest batch.

        Returns:
            Bytes.
        """
        return self.vectors + self.saved(samples, batches, largest) + self.transient(largest)


def measure_cost(point: Point, build: Callable[[Tensor], GradientGraph]) -> GraphCost:
    """Measure what the graph of a batch saves, from graphs of few samples where the model allows it.

    The cotangents that wait for the second half of a double backward pass are about as many as forward activations.
    Where the samples of other batches are wider, as sequences are, a sample of the widest ones is measured as well.

    Args:
        point: whose largest batch is used.
        build: builds the graph of products from a loss with its own.

    Returns:
        The bytes as functions of the number of samples.
    """
    batch = _largest_batch(point.batches)
    n = batch_size(batch[0])
    leaves = list(point.leaves.values())
    vectors = _VECTORS * sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    stretch = _stretch(point, batch, build)
    if n > 2 * _FEW[-1]:
        try:
            measured = _measure_few(point, batch, build)
        except MODEL_ERRORS:
            pass  # a model that insists on the size of its batch is measured on all of it
        else:
            saved, forward = (
                growth_through(list(measured), sizes, stretch) for sizes in zip(*measured.values(), strict=True)
            )
            return GraphCost(saved, forward, vectors)
    saved, forward = saved_bytes(point, batch, build)
    return GraphCost(Growth(0.0, saved / n * stretch), Growth(0.0, forward / n * stretch), vectors)


def _measure_few(point: Point, batch: Batch, build: Callable[[Tensor], GradientGraph]) -> dict[int, tuple[int, int]]:
    """Return the bytes that graphs of three numbers of samples save, and their forward halves."""
    n, most = batch_size(batch[0]), _FEW[-1]
    many = n > _MANY
    measured = {size: saved_bytes(point, slice_batch(batch, 0, size), build) for size in (_FEW[1:] if many else _FEW)}
    if many:
        fit = _SHARE_BYTES * most // max(1, measured[most][0])
        size = max(2 * most, min(n // _SHARE, fit))
        measured[size] = saved_bytes(point, slice_batch(batch, 0, size), build)
    return measured


def _stretch(point: Point, batch: Batch, build: Callable[[Tensor], GradientGraph]) -> float:
    """Return how many times as much as in a batch the graph of a sample of the widest ones saves."""
    wider = point.batches.widest / max(1.0, sample_width(batch[0]))
    if wider <= 1:
        return 1.0
    # As attention grows, where batches differ between readings or the model insists on the size of its batch.
    assumed = wider**2
    widest = next((b for b in point.batches if sample_width(b[0]) == point.batches.widest), None)
    if widest is None:
        return assumed
    single = min(batch_size(batch[0]), batch_size(widest[0])) == 1
    try:
        narrow, wide = (
            [saved_bytes(point, slice_batch(of, 0, size), build)[0] for size in ((1,) if single else (1, 2))]
            for of in (batch, widest)
        )
    except MODEL_ERRORS:
        return assumed
    # By what the second sample adds, since part of what the first one needs is shared by all.
    added = [sizes[-1] - sum(sizes[:-1]) for sizes in (narrow, wide)]
    return max(1.0, added[1] / added[0]) if added[0] > 0 else assumed


def _largest_batch(batches: Batches) -> Batch:
    """Return the first of the largest batches, or the first of all where sizes differ between readings."""
    return next((b for b in batches if batch_size(b[0]) == batches.largest), None) or next(iter(batches))


def plan_products(point: Point, cost: GraphCost, memory_budget: int | None) -> Plan:
    """Return how products are taken within a budget.

    Args:
        point: where.
        cost: of its graphs.
        memory_budget: bytes, or None for the default.

    Returns:
        Whole batches where they fit, pieces of them where the risk allows that, and whether graphs are kept.

    Raises:
        ModelError: if a budget is given that cannot hold the vectors, one sample, or a batch that cannot be split.
    """
    n = point.batches.largest
    budget = _DEFAULT_BUDGET if memory_budget is None else memory_budget
    chunk: int | None = None
    if cost.product(n) > budget:
        chunk = _largest_chunk(point, n, cost, budget, memory_budget is not None)
    # Only what is kept depends on the memory that is free, so that equal runs give equal bytes.
    room = budget if memory_budget is not None else min(budget, _free(next(iter(point.leaves.values()))) / 2)
    keep = chunk is None and cost.kept(point.batches.samples, point.batches.count, n) <= room
    graph = cost.product(n if chunk is None else chunk) - cost.vectors
    columns = int(min(_COLUMNS, max(1.0, _VECTORISED / max(graph, 1.0))))
    return Plan(chunk, keep, columns)


def _largest_chunk(point: Point, n: int, cost: GraphCost, budget: int, asked: bool) -> int | None:
    """Return the most samples whose product fits, or raise where none does and the budget was asked for."""
    single = cost.product(1)
    if single > budget and asked:
        what = "the vectors" if cost.vectors > budget else "the graph of one sample"
        raise ModelError(
            f"a memory_budget of {budget} bytes cannot hold {what} of one product: with its vectors of "
            f"{cost.vectors // _VECTORS} bytes it takes {_bytes(single)}; give at least that, or fewer parameters by "
            "at=."
        )
    chunk = max(1, bisect_right(range(1, n + 1), budget, key=cost.product))
    if may_split(point, chunk):
        return chunk
    if not asked:
        return None
    raise ModelError(
        f"a memory_budget of {budget} bytes cannot hold the graph of a batch of {n} samples, which cannot be split "
        "since its loss is not the mean of its samples' losses (as with BatchNorm in training mode, or targets that "
        f"ignore_index leaves out); give at least {_bytes(cost.product(n))}."
    )


def _bytes(size: float) -> str:
    """Return a size for a sentence, rounded up so that it is enough."""
    return f"{ceil(size)} bytes"


def _free(like: Tensor) -> float:
    """Return the bytes that are free where a tensor lives."""
    if like.is_cuda:
        return float(torch.cuda.mem_get_info(like.device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))) * 1024
    except (OSError, StopIteration):
        names = getattr(os, "sysconf_names", {})
        if "SC_PHYS_PAGES" not in names:
            return inf
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE") / 2
