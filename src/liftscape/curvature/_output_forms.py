"""Symmetric maps C in output space, and the operator Jᵀ C J that they make in parameter space."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor

from liftscape.derivatives import Point, explain_derivative
from liftscape.functional import main_tensor, map_tensors, named_tensors
from liftscape.operators import GraphOperator, Plan
from liftscape.outcomes import ModelError
from liftscape.samples import Batch, loss_name

__all__ = ["FormOfBatch", "LossAtOutputs", "OutputForm", "OutputOperator", "rows_of"]

# A symmetric map of output space, tensor by tensor.
OutputForm = Callable[[Sequence[Tensor]], Sequence[Tensor]]
# Makes the map of one batch, for a loss that is the mean over it.
FormOfBatch = Callable[["LossAtOutputs"], OutputForm]


@final
class LossAtOutputs:
    """The mean loss of one batch as a function of the outputs alone, at the outputs of the point.

    Attributes:
        outputs: the differentiable tensors that the model returned, with their graph.
        batch: (inputs, targets).

    Args:
        point: whose model and loss are used.
        batch: (inputs, targets).
    """

    def __init__(self, point: Point, batch: Batch) -> None:
        self.batch = batch
        self._loss = point.loss
        output = point.call(batch[0])
        # A named loss reads one tensor of several; the others would only cost.
        main = main_tensor(output) if loss_name(point.loss) is not None else None
        self._output: Any = output if main is None else main
        tensors = named_tensors(self._output).values()
        self.outputs = [tensor for tensor in tensors if tensor.requires_grad]

    def gradient(self, targets: Tensor | None = None, create_graph: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """Return ∂ℓ/∂z and the z it was taken at, cut off from the network.

        Args:
            targets: other ones than the batch's.
            create_graph: whether the gradient will be differentiated.

        Returns:
            The gradient and the leaves, tensor by tensor.
        """
        leaves: list[Tensor] = []

        def cut(tensor: Tensor) -> Tensor:
            if not tensor.requires_grad:
                return tensor
            leaves.append(tensor.detach().requires_grad_())
            return leaves[-1]

        with torch.enable_grad():
            # Cut here and not in the caller, since the loss must see the leaves in the place of the outputs.
            value = self._loss(map_tensors(cut, self._output), self.batch[1] if targets is None else targets)
            parts = torch.autograd.grad(
                value, leaves, create_graph=create_graph, allow_unused=True, materialize_grads=True
            )
        return list(parts), leaves


@final
class _OutputGraph:
    """The graph of v ↦ Jᵀ C J v for one batch.

    J v is the derivative of the linear map u ↦ Jᵀu, applied to v: two backward passes, since forward mode has silently
    wrong derivatives through norm layers.
    """

    def __init__(self, outputs: Sequence[Tensor], leaves: Sequence[Tensor], form: OutputForm, weight: float) -> None:
        self._outputs = outputs
        self._leaves = leaves
        self._form = form
        self._weight = weight
        self._dummies = [torch.zeros_like(output).requires_grad_() for output in outputs]
        parts: Sequence[Tensor | None] = [None] * len(leaves)
        if outputs:
            parts = torch.autograd.grad(outputs, leaves, self._dummies, create_graph=True, allow_unused=True)
        self.parts = {index: part for index, part in enumerate(parts) if part is not None and part.requires_grad}

    def multiply(self, rows: Sequence[Tensor], batched: bool, retain: bool) -> Sequence[Tensor | None]:
        """Return Jᵀ C J v by leaf.

        Args:
            rows: v by leaf.
            batched: never; the plan takes one vector at a time.
            retain: whether the graph will be used again.

        Returns:
            The product by leaf; None for zero.
        """
        assert not batched
        if not self.parts:
            return [None] * len(self._leaves)
        vectors = [rows[index] for index in self.parts]
        moved = torch.autograd.grad(
            list(self.parts.values()),
            self._dummies,
            vectors,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        cotangents = [part * self._weight for part in self._form(moved)]
        return torch.autograd.grad(self._outputs, self._leaves, cotangents, retain_graph=retain, allow_unused=True)


@final
class OutputOperator(GraphOperator):
    """Σ_b (n_b / n) J_bᵀ C_b J_b at θ as an operator, J_b the Jacobian of the outputs on batch b.

    Args:
        point: where it is taken.
        form: returns a fresh maker of C_b for each pass over the data.
        plan: how much is held in memory.
    """

    def __init__(self, point: Point, form: Callable[[], FormOfBatch], plan: Plan) -> None:
        single = Plan(plan.chunk, plan.keep, columns=1)
        super().__init__(point.leaves, single, lambda error: explain_derivative(point, error))
        self._point = point
        self._form = form

    def graphs(self) -> Iterator[_OutputGraph]:
        """Yield the graphs of the batches.

        Yields:
            One for each piece of the data.
        """
        form = self._form()
        leaves = list(self._point.leaves.values())
        for batch, weight in self._point.chunks(self._plan.chunk):
            at = LossAtOutputs(self._point, batch)
            pending = [_OutputGraph(at.outputs, leaves, form(at), weight)]
            # What this frame holds would stay in memory while the next graph is built.
            del at
            yield pending.pop()


def rows_of(tensor: Tensor, samples: int, what: str) -> Tensor:
    """Return a tensor of outputs with one row a sample, or raise if its first axis holds something else."""
    if tensor.ndim == 0 or tensor.shape[0] != samples:
        raise ModelError(
            f"{what} needs outputs whose first axis holds the samples, but a batch of {samples} gave outputs of shape "
            f"{tuple(tensor.shape)}; reshape the model's output."
        )
    return tensor.reshape(samples, -1)
