"""Some networks of an ensemble on their way, in one vectorised pass a step."""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from liftscape.functional import at_every_place
from liftscape.outcomes import ModelError
from liftscape.training._alike import require_alike, vectorising
from liftscape.training._rules import Rule
from liftscape.training._stack import stack_models

__all__ = ["Loss", "Progress", "Run"]

Progress = Callable[[int, int], None]
Loss = Callable[[Tensor, Tensor], Tensor]


class Run:
    """Some of the networks on their way."""

    def __init__(
        self,
        loss: Loss,
        data: tuple[Tensor, Tensor],
        models: Sequence[nn.Module],
        rule: Rule,
        orders: Sequence[Iterator[Tensor]] | None,
    ) -> None:
        self._model, self._loss, self._rule, self._orders = models[0], loss, rule, orders
        self._inputs, self._targets = data
        self._theta, self._constants = stack_models(models)
        require_alike(models, self._theta, self._constants, self._inputs)
        for tensor in self._theta.values():
            tensor.requires_grad_()

    def train(
        self, steps: int, recorded: Sequence[int], snapshots: Sequence[int], advance: Progress
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor, dict[int, dict[str, Tensor]]]:
        """Take all steps; return parameters, constants, recorded losses and snapshots."""
        losses, kept, leaves = [], {}, list(self._theta.values())
        wanted, frozen = set(recorded), set(snapshots)
        for step in range(steps + 1):
            if step in frozen:
                kept[step] = {name: tensor.detach().clone() for name, tensor in self._theta.items()}
            # On all data the risk before a step is there anyway.
            if step in wanted and (self._orders is not None or step == steps):
                losses.append(self._evaluate())
            if step == steps:
                break
            values = self._losses()
            if step in wanted and self._orders is None:
                losses.append(values.detach())
            gradients = torch.autograd.grad(values.sum(), leaves)
            with torch.no_grad():
                self._rule.step(self._theta, dict(zip(self._theta, gradients, strict=True)))
            advance(step + 1, steps)
        return (
            {name: tensor.detach() for name, tensor in self._theta.items()},
            self._constants,
            torch.stack(losses, dim=1),
            kept,
        )

    def _losses(self) -> Float[Tensor, " K"]:
        """Return every network's loss on what it sees next."""
        if self._orders is None:
            return self._values(self._inputs, self._targets)
        index = torch.stack([next(order) for order in self._orders])
        return self._values(self._inputs[index], self._targets[index], own=True)

    def _values(self, inputs: Tensor, targets: Tensor, own: bool = False) -> Float[Tensor, " K"]:
        """Return every network's loss, on common data or on each network's own."""

        def value(theta: dict[str, Tensor], constants: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            state = at_every_place(self._model, {**theta, **constants})
            return self._loss(functional_call(self._model, state, (x,), tie_weights=False), y)

        axis = 0 if own else None
        try:
            return vmap(value, in_dims=(0, 0, axis, axis))(self._theta, self._constants, inputs, targets)
        except RuntimeError as error:
            raise ModelError(vectorising(self._model, error)) from error

    def _evaluate(self) -> Float[Tensor, " K"]:
        """Return every network's risk on all data, without a trace in its buffers."""
        held = {name: tensor.clone() for name, tensor in self._constants.items()}
        with torch.no_grad():
            values = self._values(self._inputs, self._targets)
        self._constants = held
        return values
