"""The empirical risk R_S(θ) as a pure function of θ."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.derivatives import (
    CheckedPoints,
    DerivativeCheck,
    Hessian,
    Point,
    explain_derivative,
    flatten,
    gradient_graph,
    gradient_of,
    hold,
    refuse_hidden,
    unflatten,
)
from liftscape.functional import (
    call_model,
    copy_model,
    fitting,
    output_tensor,
    require_module,
    trainable_parameters,
    untouched,
)
from liftscape.memory import GraphCost, measure_cost, plan_products
from liftscape.operators import Plan, explained
from liftscape.risk._joined import loss_over_batches
from liftscape.samples import (
    Batch,
    Batches,
    Loss,
    NormalisedLoss,
    as_batches,
    as_loss,
    batch_size,
    check_loss,
    check_model,
)

__all__ = ["EmpiricalRisk"]


@final
class EmpiricalRisk:
    """The empirical risk R_S(θ) = Σ_b (n_b / n) ℓ_b(f_θ(x_b), y_b), batches b weighted by their sample counts n_b.

    The model is called, never changed: weights, mode, buffers, gradients and hooks stay as they are, also after an
    exception. θ are its trainable parameters; frozen ones are constants, tied ones count once.

    Source: Bai et al. 2022 (arXiv 2205.13283), the setting of the paper.

    Args:
        model: any module; its output is a tensor, or a dict or tuple of tensors. It may differentiate inside.
        loss: ``"mse"``, ``"cross_entropy"`` (torch's own, mean reduction, of the tensor output, its entry ``logits`` or
            its only tensor) or a callable(output, target) of what the model returns that gives the mean over the batch.
            Over several batches torch's cross entropy with class weights or ``ignore_index`` is divided by the weights
            of all data, Σ_i w_i ℓ_i / Σ_i w_i, as if they were one batch; a callable is checked in one pass.
        data: ``(inputs, targets)`` or a re-iterable of such batches; a tuple of inputs holds the model's positional
            arguments, a mapping its keyword arguments.

    Raises:
        DataError: if the data are not finite, empty, of unequal length, or do not fit the model or the loss.
        ModelError: if the model is not a deterministic function of its parameters, the loss not one of its output, or
            that on all samples not the mean of those on the batches.

    Example:
        >>> model = nn.Linear(2, 1, dtype=torch.float64)
        >>> x = torch.ones(4, 2, dtype=torch.float64)
        >>> risk = EmpiricalRisk(model, "mse", (x, model(x).detach()))
        >>> risk.value().item(), risk.gradient().shape, risk.hessian().shape
        (0.0, torch.Size([3]), (3, 3))
    """

    def __init__(self, model: nn.Module, loss: Literal["mse", "cross_entropy"] | Loss, data: Any) -> None:
        batches = data if isinstance(data, Batches) else as_batches(data)
        # What the weights of other data add up to is no normaliser of these.
        given = loss.loss if isinstance(loss, NormalisedLoss) else as_loss(loss)
        self._begin(model, given, batches)
        with untouched(model):
            self.loss = loss_over_batches(given, model, batches)

    def _begin(self, model: nn.Module, loss: Loss, batches: Batches) -> None:
        """Hold model, loss and data, checked on the first batch."""
        with untouched(require_module(model)):
            inputs, targets = next(iter(batches))
            check_loss(loss, check_model(model, inputs, batches.count), targets)
        self._hold(model, loss, batches)

    def _hold(self, model: nn.Module, loss: Loss, batches: Batches) -> None:
        """Hold model, loss and data."""
        self.model = model
        self.loss = loss
        self.batches = batches
        self._costs: dict[tuple[str, ...], GraphCost] = {}
        self._sound = False
        self._checks = CheckedPoints()

    @property
    def parameters(self) -> dict[str, Tensor]:
        """θ by name: the model's trainable parameters, detached."""
        return trainable_parameters(self.model)

    @property
    def size(self) -> int:
        """The number M of parameters."""
        return sum(tensor.numel() for tensor in self.parameters.values())

    def outputs(self, params: Mapping[str, Tensor] | None = None) -> Iterator[Tensor]:
        """Yield the outputs f_θ(x_b), one batch after the other.

        Of several tensors it is the entry ``logits``, or all of them as one vector.

        Args:
            params: θ by name; the model's own when None.

        Yields:
            The output on each batch.
        """
        for inputs, _ in self.batches:
            yield output_tensor(call_model(self.model, self.parameters if params is None else params, inputs))

    def batch_value(self, params: Mapping[str, Tensor], batch: Batch) -> Float[Tensor, ""]:
        """Return the mean loss on one batch, differentiable, as torch.func needs it.

        Args:
            params: θ by name.
            batch: (inputs, targets).

        Returns:
            A scalar.
        """
        inputs, targets = batch
        return self.loss(call_model(self.model, params, inputs), targets)

    def terms(self, params: Mapping[str, Tensor]) -> Iterator[Tensor]:
        """Yield the terms (n_b / n) ℓ_b whose sum is the risk, differentiable, one batch after the other.

        Args:
            params: θ by name.

        Yields:
            A scalar for each batch.
        """
        for batch in self.batches:
            yield self.batch_value(params, batch) * (batch_size(batch[0]) / self.batches.samples)

    def value(self, params: Mapping[str, Tensor] | None = None) -> Float[Tensor, ""]:
        """Return R_S(θ).

        Args:
            params: θ by name; the model's own when None.

        Returns:
            A scalar in the parameters' dtype.
        """
        with torch.no_grad():
            return torch.stack([term.detach() for term in self.terms(self._check(params))]).sum()

    def gradient(self, params: Mapping[str, Tensor] | None = None) -> Float[Tensor, " M"]:
        """Return ∇R_S(θ) as one vector, zero for parameters that take no part.

        Args:
            params: θ by name; the model's own when None.

        Returns:
            The vector (M,), in the order of :attr:`parameters`.

        Raises:
            ModelError: if the model differentiates inside and uses a function without a second derivative.
        """
        leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in self._check(params).items()}
        total = torch.zeros_like(flatten(leaves).detach())
        with torch.enable_grad(), explained(lambda error: explain_derivative(self.point(params), error)):
            for term in self.terms(leaves):
                if not self._sound:
                    refuse_hidden(self.point(params), term, twice=False)
                    self._sound = True
                total += gradient_of(term, list(leaves.values()))
        return total

    def hessian(
        self,
        params: Mapping[str, Tensor] | None = None,
        *,
        at: str | Sequence[str] | None = None,
        memory_budget: int | None = None,
    ) -> Hessian:
        """Return ∇²R_S(θ), or its block of chosen parameters, as an operator.

        It stays that of this moment's parameters, buffers and modes. From the second product on the graph is kept, if
        by an estimate made beforehand it fits the budget; otherwise it is built for each product, from as many samples
        at a time as fit.

        Args:
            params: θ by name; the model's own when None.
            at: the name of a module or parameter, or several: the operator acts on these, all others are constants.
            memory_budget: the bytes that a product may take; when None at most 2 GiB, and for a kept graph at most half
                of what is free.

        Returns:
            The operator, (M, M).

        Raises:
            ModelError: if a name is unknown, or the budget cannot hold the product for one sample.
        """
        point = self.point(params, at=at)
        plan = self.plan(point, memory_budget)
        explain = lambda error: explain_derivative(point, error)
        return Hessian(
            lambda _: point.terms(plan.chunk), point.leaves, plan, explain, lambda: self._checks.check(point, plan)
        )

    def check_derivatives(self) -> DerivativeCheck:
        """Compare ∇R with differences of R, and a product with ∇²R with differences of ∇R; once for each θ.

        It costs as much as 3 to 7 products, and for at most 4,000 parameters twice that and 2 values for each tensor.

        Returns:
            The gaps.

        Raises:
            ModelError: if they differ for certain, as with detach() or a wrong backward; it names the parameters.
        """
        point = self.point()
        return self._checks.check(point, self.plan(point))

    def point(self, params: Mapping[str, Tensor] | None = None, *, at: str | Sequence[str] | None = None) -> Point:
        """Return model, loss and data held at θ, whatever becomes of the model afterwards.

        Args:
            params: θ by name; the model's own when None.
            at: as for :meth:`hessian`.

        Returns:
            The point, whose leaves are the chosen parameters.
        """
        return hold(self.model, self.loss, self.batches, self._check(params), at)

    def plan(self, point: Point, memory_budget: int | None = None) -> Plan:
        """Return how products at a point are taken within a budget; what a graph costs is measured once."""
        names = tuple(point.leaves)
        if names not in self._costs:
            self._costs[names] = measure_cost(point, partial(gradient_graph, point))
        return plan_products(point, self._costs[names], memory_budget)

    def flatten(self, params: Mapping[str, Tensor] | None = None) -> Float[Tensor, " M"]:
        """Return θ, the model's own when None, as one vector (M,)."""
        return flatten(self._check(params))

    def unflatten(self, vector: Float[Tensor, " M"]) -> dict[str, Tensor]:
        """Return a vector (M,) of θ by name."""
        return unflatten(vector, self.parameters)

    def with_model(self, model: nn.Module) -> "EmpiricalRisk":
        """Return the risk of another model on the same data with the same loss."""
        risk = EmpiricalRisk.__new__(EmpiricalRisk)
        # That the mean over batches is the loss on all samples is a matter of loss and data.
        risk._begin(model, self.loss, self.batches)
        return risk

    def derived(self, model: nn.Module) -> "EmpiricalRisk":
        """Return the risk of a network that was made of this one's, which is trusted and not checked again.

        Args:
            model: a network of the same modules, fewer or more of them, such as a lift or a fold.

        Returns:
            The risk, on the same data with the same loss.
        """
        risk = EmpiricalRisk.__new__(EmpiricalRisk)
        risk._hold(model, self.loss, self.batches)
        return risk

    def at(self, params: Mapping[str, Tensor]) -> "EmpiricalRisk":
        """Return the risk of a copy of the model that holds other parameters; this one's model is untouched."""
        model = copy_model(self.model)
        for name, tensor in self._check(params).items():
            model.get_parameter(name).data.copy_(tensor)
        return self.with_model(model)

    def _check(self, params: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return θ in the model's order, or raise if names or shapes do not fit."""
        return self.parameters if params is None else fitting(params, self.parameters)
