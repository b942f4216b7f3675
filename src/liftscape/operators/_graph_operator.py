"""A symmetric operator whose products run backwards through graphs, kept between products or built anew for each."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.operators._finite import first_not_a_number, require_finite_product
from liftscape.operators._operator import SymmetricOperator
from liftscape.operators._total import Total, cut, split
from liftscape.outcomes import ModelError

__all__ = ["Graph", "GraphOperator", "Plan", "explained"]


@dataclass(frozen=True)
class Plan:
    """How products are taken within a memory budget.

    Attributes:
        chunk: the most samples whose graph is held at once; None for whole batches.
        keep: whether the graphs stay from the second product on.
        columns: how many vectors one vectorised pass takes.
    """

    chunk: int | None = None
    keep: bool = False
    columns: int = 64


Explain = Callable[[RuntimeError], ModelError | None]


@contextmanager
def explained(explain: Explain | None) -> Generator[None, None, None]:
    """Turn an error of torch's into the sentence that explains it, while the context lasts.

    Args:
        explain: returns the sentence as an error, None for nothing known.

    Yields:
        Nothing.

    Raises:
        RuntimeError: torch's own, where nothing is known about it.
    """
    try:
        yield
    except RuntimeError as error:
        sentence = None if explain is None else explain(error)
        if sentence is None:
            raise
        raise sentence from error


@runtime_checkable
class Graph(Protocol):
    """The graph of one piece of the data, through which products are taken."""

    def multiply(self, rows: Sequence[Tensor], batched: bool, retain: bool) -> Sequence[Tensor | None]:
        """Return the product with one vector, or with several along a first axis.

        Args:
            rows: the vector by leaf, each of the leaf's shape behind the axis of vectors.
            batched: whether there is such an axis.
            retain: whether the graph will be used again.

        Returns:
            The product by leaf; None for zero.
        """
        ...


class GraphOperator(SymmetricOperator):
    """A sum of graphs as a symmetric operator on the leaves.

    Args:
        leaves: the parameters that the graphs end in, by name.
        plan: how much is held in memory.
        explain: what an error of torch's means, None for nothing known.
    """

    def __init__(self, leaves: Mapping[str, Tensor], plan: Plan, explain: Explain | None = None) -> None:
        self._names, self._leaves = list(leaves), list(leaves.values())
        self._plan = plan
        self._explain = explain
        self._used = False
        self._kept: list[Graph] | None = None

    @abstractmethod
    def graphs(self) -> Iterator[Graph]:
        """Yield the graphs whose products add up, built as they are asked for."""

    @property
    @final
    def size(self) -> int:
        """The number M of chosen parameters."""
        return sum(leaf.numel() for leaf in self._leaves)

    @property
    @final
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return self._leaves[0].dtype

    @property
    @final
    def device(self) -> torch.device:
        """The parameters' device."""
        return self._leaves[0].device

    @final
    def prepare(self) -> None:
        """Keep the graph from the next product on, where the plan allows it."""
        self._used = True

    @final
    def multiply(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return the sum of the graphs' products.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns.

        Raises:
            NotFiniteError: if a product is not finite.
        """
        # A single product needs no graph afterwards and is smaller when its graph is freed on the way.
        keep, self._used = self._plan.keep and self._used, True
        total = Total(block.shape[1], self._leaves)
        with explained(self._explain), torch.enable_grad():
            # Read by `next` in a loop that drops a graph before the next one is built.
            pending = self._kept_or_built(keep)
            while (graph := next(pending, None)) is not None:
                with torch.no_grad():
                    self._add(total, graph, block, keep)
                del graph
        leaves = dict(zip(self._names, self._leaves, strict=True))
        require_finite_product(total.rows, leaves, lambda index: self._culprit(block[:, index : index + 1]))
        return total.rows.T

    def _culprit(self, column: Float[Tensor, "M 1"]) -> str:
        """Say which function first makes a product with one vector NaN."""

        def again() -> None:
            total = Total(1, self._leaves)
            with torch.enable_grad():
                for graph in self.graphs():
                    with torch.no_grad():
                        self._add(total, graph, column, False)

        # Graphs that are kept know nothing of the functions that made them.
        return first_not_a_number(again)

    @final
    def multiply_nudged(self, block: Float[Tensor, "M k"]) -> Float[Tensor, "M k"]:
        """Return the product at leaves whose entries are moved by at most one eps, relative; the leaves stay.

        Args:
            block: k vectors as columns.

        Returns:
            Their k products as columns.
        """
        plan, before = self._plan, [leaf.detach().clone() for leaf in self._leaves]
        # A kept graph is that of the leaves as they were, and there need not be room for two.
        self._plan, self._kept = replace(plan, keep=False), None
        draws = torch.Generator().manual_seed(0)
        try:
            with torch.no_grad():
                for leaf in self._leaves:
                    moves = 2 * torch.rand(leaf.shape, generator=draws, dtype=leaf.dtype) - 1
                    leaf.addcmul_(leaf, moves.to(leaf.device), value=torch.finfo(leaf.dtype).eps)
            return self.multiply(block)
        finally:
            self._plan = plan
            with torch.no_grad():
                for leaf, kept in zip(self._leaves, before, strict=True):
                    leaf.copy_(kept)

    def _kept_or_built(self, keep: bool) -> Iterator[Graph]:
        """Return the graphs, from memory where they are to be kept."""
        if keep and self._kept is None:
            self._kept = list(self.graphs())
        return iter(self._kept) if keep and self._kept is not None else self.graphs()

    def _add(self, total: Total, graph: Graph, block: Tensor, keep: bool) -> None:
        """Add one graph's products with all columns."""
        width, count = self._plan.columns, block.shape[1]
        for start in range(0, count, width):
            stop = min(start + width, count)
            rows = block[:, start:stop].T.contiguous()
            last = not keep and stop == count
            if stop - start == 1 or not _add_batched(total, graph, rows, start, last):
                for offset, row in enumerate(rows):
                    final_one = last and offset == len(rows) - 1
                    total.add(start + offset, graph.multiply(split(row, self._leaves), False, not final_one))


def _add_batched(total: Total, graph: Graph, rows: Tensor, start: int, last: bool) -> bool:
    """Add the products of several vectors in one pass, or say that torch cannot vectorise it."""
    views = [
        view.view(len(rows), *leaf.shape) for view, leaf in zip(cut(rows, total.leaves), total.leaves, strict=True)
    ]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            parts = graph.multiply(views, True, True)
    except RuntimeError:
        # Functions of the user's own seldom have a batching rule; an error of another kind comes again one by one.
        return False
    total.add(slice(start, start + len(rows)), parts)
    return True
