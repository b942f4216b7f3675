"""Hessian-vector products by double backward.

Double backward is used because jvp(jacrev) is silently wrong through LayerNorm and training-mode BatchNorm.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from liftscape.derivatives._point import Point
from liftscape.derivatives._second_derivative import refuse_hidden
from liftscape.operators import GraphOperator, Plan, explained
from liftscape.outcomes import ModelError

__all__ = ["GradientGraph", "Hessian", "backward_rows", "flatten", "gradient_graph", "gradient_of", "unflatten"]


def flatten(params: Mapping[str, Tensor]) -> Float[Tensor, " M"]:
    """Return the tensors as one vector, in the mapping's order.

    Args:
        params: tensors by name.

    Returns:
        The vector (M,).
    """
    return torch.cat([tensor.reshape(-1) for tensor in params.values()])


def unflatten(vector: Float[Tensor, " M"], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the vector as tensors with the names and shapes of another mapping.

    Args:
        vector: (M,).
        like: tensors by name with M entries in all.

    Returns:
        Views of the vector by name.
    """
    parts = vector.split([tensor.numel() for tensor in like.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(like.items(), parts, strict=True)}


def gradient_of(value: Tensor, leaves: list[Tensor]) -> Float[Tensor, " M"]:
    """Return ∇value as one vector, zero where a leaf does not take part.

    Args:
        value: a scalar.
        leaves: the tensors to differentiate with respect to.

    Returns:
        The vector (M,).
    """
    if not value.requires_grad:
        return torch.cat([torch.zeros_like(leaf).reshape(-1) for leaf in leaves])
    parts = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in parts])


def backward_rows(outputs: Tensor, leaves: list[Tensor], rows: Tensor) -> Tensor:
    """Return rows @ ∂outputs/∂leaves, (k, M), one vectorised backward pass for all rows."""
    parts = torch.autograd.grad(outputs, leaves, rows, retain_graph=True, allow_unused=True, is_grads_batched=True)
    # materialize_grads would give the zeros of unused leaves without the batch dimension.
    filled = [
        rows.new_zeros(len(rows), leaf.numel()) if part is None else part.reshape(len(rows), -1)
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return torch.cat(filled, dim=1)


@final
class GradientGraph:
    """The graph of a gradient: run backwards from v it gives ∇²term · v, the Hessian being symmetric.

    Products need the graph's edges alone, so the gradient itself, M entries for each term, is held only when asked for.

    Args:
        term: a scalar with its graph.
        leaves: the tensors to differentiate with respect to.
        whole: whether the gradient is held as well.
    """

    def __init__(self, term: Tensor, leaves: Sequence[Tensor], whole: bool = False) -> None:
        self._leaves = leaves
        parts: Sequence[Tensor | None] = [None] * len(leaves)
        if term.requires_grad:
            parts = torch.autograd.grad(term, leaves, create_graph=True, allow_unused=True)
        # By leaf rather than as one vector, which would be a copy forth and another one back.
        self._edges = {
            index: get_gradient_edge(part)
            for index, part in enumerate(parts)
            if part is not None and part.requires_grad
        }
        self.value = term.detach()
        self._gradient = [None if part is None else part.detach() for part in parts] if whole else None

    @property
    def nodes(self) -> list[Any]:
        """The nodes of torch's in which the graph ends."""
        return [edge.node for edge in self._edges.values()]

    def gradient(self) -> Float[Tensor, " M"]:
        """Return ∇term as one vector, of a graph that is whole.

        Returns:
            The vector (M,), without its graph.
        """
        assert self._gradient is not None
        rows = zip(self._gradient, self._leaves, strict=True)
        return torch.cat([(torch.zeros_like(leaf) if row is None else row).reshape(-1) for row, leaf in rows])

    def multiply(self, rows: Sequence[Tensor], batched: bool, retain: bool) -> Sequence[Tensor | None]:
        """Return ∇²term · v by leaf.

        Args:
            rows: v by leaf, with an axis of vectors first where batched.
            batched: whether there is such an axis.
            retain: whether the graph will be used again.

        Returns:
            The product by leaf; None for zero.
        """
        if not self._edges:
            return [None] * len(self._leaves)
        vectors = [rows[index] for index in self._edges]
        return torch.autograd.grad(
            list(self._edges.values()),
            self._leaves,
            vectors,
            retain_graph=retain,
            allow_unused=True,
            is_grads_batched=batched,
        )


def gradient_graph(point: Point, value: Tensor) -> GradientGraph:
    """Return the graph through which products are taken.

    Args:
        point: where.
        value: the mean loss on a batch, with its graph.

    Returns:
        The graph.

    Raises:
        ModelError: if an operation on the way has no second derivative.
    """
    refuse_hidden(point, value, twice=True)
    return GradientGraph(value, list(point.leaves.values()))


@final
class Hessian(GraphOperator):
    """∇²R at θ as an operator: products by double backward, summed over weighted pieces of the data.

    Args:
        terms: a callable of θ (by name) that yields the weighted terms whose sum is R, piece by piece.
        params: θ by name; leaves that require a gradient are used as they are, other tensors are cloned.
        plan: how much is held in memory; graphs are built for each product when None.
        explain: what an error of torch's means.
        verify: raises if gradient and products are not those of R.
    """

    def __init__(
        self,
        terms: Callable[[dict[str, Tensor]], Iterator[Tensor]],
        params: Mapping[str, Tensor],
        plan: Plan | None = None,
        explain: Callable[[RuntimeError], ModelError | None] | None = None,
        verify: Callable[[], object] | None = None,
    ) -> None:
        self._params = {
            name: tensor if tensor.is_leaf and tensor.requires_grad else tensor.detach().clone().requires_grad_()
            for name, tensor in params.items()
        }
        super().__init__(self._params, Plan() if plan is None else plan, explain)
        self._terms = terms
        self._whole = False
        self._verify = verify

    def verify(self) -> None:
        """Raise if the derivatives of the risk are not those of its values, see ``EmpiricalRisk.check_derivatives``."""
        if self._verify is not None:
            self._verify()

    def graphs(self) -> Iterator[GradientGraph]:
        """Yield the graphs of the terms' gradients.

        Yields:
            One for each term.
        """
        leaves = list(self._params.values())
        for term in self._terms(self._params):
            pending = [GradientGraph(term, leaves, self._whole)]
            # What this frame holds would stay in memory while the next graph is built.
            del term
            yield pending.pop()

    def value_and_gradient(self) -> tuple[Float[Tensor, ""], Float[Tensor, " M"]]:
        """Return R and ∇R off the graphs that products run through, which are kept where the plan allows it.

        Returns:
            A scalar and a vector (M,).
        """
        self.prepare()
        if not self._whole:
            self._whole, self._kept = True, None
        value = torch.zeros((), dtype=self.dtype, device=self.device)
        gradient = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        with explained(self._explain), torch.enable_grad():
            # Read by `next` in a loop that drops a graph before the next one is built.
            pending = self._kept_or_built(self._plan.keep)
            while (graph := next(pending, None)) is not None:
                assert isinstance(graph, GradientGraph)
                value, gradient = value + graph.value, gradient + graph.gradient()
                del graph
        return value, gradient
