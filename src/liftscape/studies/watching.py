"""One network trained by minibatches, with its loss and the linearity of its layers on the way."""

from collections.abc import Callable, Sequence
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from liftscape.linearity import layer_linearity
from liftscape.training import minibatches

__all__ = ["accuracy", "clock_of", "log_spaced", "train", "watch"]


def log_spaced(steps: int, count: int) -> list[int]:
    """Return about so many steps from 0 to the last, denser at the beginning.

    Args:
        steps: the last one.
        count: how many.

    Returns:
        Ascending, without repetitions.

    Example:
        >>> log_spaced(100, 4)
        [0, 1, 10, 100]
    """
    return sorted(
        {0, *(round(steps ** (place / (count - 2))) for place in range(count - 1))} if count > 2 else {0, steps}
    )


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
    at: "Any" = None,
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


def watch(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    probe: int,
    losses_at: Sequence[int],
    layers_at: Sequence[int] = (),
    **training: Any,
) -> dict[str, Any]:
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
    row: dict[str, Any] = {"steps": [], "losses": [], "layers_at": [], "held": [], "dead": [], "correlation": []}

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


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return what tells the seconds of a device: those of the CPU alone, or on a GPU the time once its queue is empty.

    Args:
        device: any.

    Returns:
        A function without arguments.
    """
    if device.type != "cuda":
        return process_time

    def clock() -> float:
        torch.cuda.synchronize(device)
        return perf_counter()

    return clock
