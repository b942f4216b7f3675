"""One network trained by minibatches, with its loss and the linearity of its layers on the way."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from liftscape.linearity import layer_linearity
from liftscape.training._stack import minibatches

__all__ = ["Watched", "accuracy", "train", "watch"]


def train(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int,
    learning_rate: float,
    batch_size: int | None,
    seed: int,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    at: Callable[[int], None] | None = None,
) -> None:
    """Train a classifier in place by SGD with momentum.

    Args:
        model: the network; frozen parameters stay.
        inputs: all of them.
        targets: their classes.
        steps: how many.
        learning_rate: of the steps.
        batch_size: samples of a step; all when None.
        seed: of the order of the data.
        momentum: of the steps.
        weight_decay: λ of the penalty ½λ‖θ‖².
        at: called with the step before it is taken, and with the last one after all.
    """
    leaves = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rule = torch.optim.SGD(leaves, lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
    order = None if batch_size is None else minibatches(len(inputs), batch_size, seed)
    for step in range(steps):
        if at is not None:
            at(step)
        index = slice(None) if order is None else next(order).to(inputs.device)
        rule.zero_grad(set_to_none=True)
        functional.cross_entropy(model(inputs[index]), targets[index]).backward()
        rule.step()
    if at is not None:
        at(steps)


class Watched(TypedDict):
    """What :func:`watch` records: one entry of the last three for each of `layers_at`, in it one for each layer.

    Attributes:
        steps: at which the loss was recorded.
        losses: one for each.
        layers_at: steps at which the layers were.
        held: share of a layer's neurons that one affine piece holds.
        dead: share of those on a piece with λ = 0.
        correlation: smallest |ρ| of a neuron; None where it is not defined.
    """

    steps: list[int]
    losses: list[float]
    layers_at: list[int]
    held: list[list[float]]
    dead: list[list[float]]
    correlation: list[list[float | None]]


def watch(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    probe: int,
    losses_at: Sequence[int],
    layers_at: Sequence[int] = (),
    **training: Any,
) -> Watched:
    """Train a classifier in place, and record what it does on the first samples.

    Args:
        model: the network.
        inputs: all of them.
        targets: their classes.
        probe: so many of the first samples are looked at, as one batch.
        losses_at: steps at which their loss is recorded.
        layers_at: steps at which the linearity of the layers is.
        training: as for :func:`train`.

    Returns:
        Steps with losses, and steps with one entry a layer: the share of its neurons that one affine piece holds, of
        those on a piece with λ = 0, and the smallest |ρ|.
    """
    x, y = inputs[:probe], targets[:probe]
    wanted, looked = set(losses_at), set(layers_at)
    row: Watched = {"steps": [], "losses": [], "layers_at": [], "held": [], "dead": [], "correlation": []}

    def record(step: int) -> None:
        if step in wanted:
            with torch.no_grad():
                row["losses"].append(float(functional.cross_entropy(model(x), y)))
            row["steps"].append(step)
        if step in looked:
            found = layer_linearity(model, x, affine_maps=False).rows
            row["layers_at"].append(step)
            row["held"].append([each.occupancy for each in found])
            row["dead"].append([each.dead / each.neurons for each in found])
            row["correlation"].append([_known(each.min_correlation) for each in found])

    train(model, inputs, targets, at=record, **training)
    return row


def _known(value: float) -> float | None:
    """Return a number, None where there is none."""
    return value if value == value else None


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Return the share of samples whose class has the largest output.

    Args:
        model: the network.
        inputs: the samples.
        targets: their classes.

    Returns:
        Between 0 and 1.
    """
    with torch.no_grad():
        return float((model(inputs).argmax(dim=1) == targets).double().mean())
