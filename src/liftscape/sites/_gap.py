"""How far the outputs of two networks are from each other on data."""

import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from liftscape.forward import iterate_inputs
from liftscape.functional import (
    call_model,
    inputs_named,
    output_tensor,
    require_module,
    trainable_parameters,
    untouched,
)
from liftscape.outcomes import LiftscapeError

__all__ = ["change_of_outputs", "changes_of_outputs", "drawing_alike", "output_gap", "outputs_of"]


def output_gap(first: nn.Module, second: nn.Module, inputs: Any) -> tuple[float, float]:
    """Return max |f₁ − f₂| and max |f₁| over data, NaN where an output is not a number.

    Where a network draws random numbers both draw the same.

    Args:
        first: a network.
        second: another one.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches.

    Returns:
        Both numbers.

    Raises:
        LiftscapeError: if there are no inputs, or a network is none or on the meta device.

    Example:
        >>> output_gap(nn.Identity(), nn.ReLU(), torch.tensor([[-1.0], [3.0]]))
        (1.0, 3.0)
    """
    gaps, largest = output_gaps(first, [second], inputs)
    return gaps[0], largest


def output_gaps(first: nn.Module, others: Sequence[nn.Module], inputs: Any) -> tuple[list[float], float]:
    """Return max |f₁ − f| for several networks f, and max |f₁|, in one reading of the data.

    Args:
        first: a network.
        others: networks that are compared with it.
        inputs: as for :func:`output_gap`.

    Returns:
        The gaps, and the largest output of the first network.

    Raises:
        LiftscapeError: as :func:`output_gap` does.
    """
    for network in (first, *others):
        require_module(network)
    found: list[list[float]] = []
    for batch in iterate_inputs(inputs):
        ours, *each = (_drawn_alike(network, batch) for network in (first, *others))
        for theirs in each:
            if ours.shape != theirs.shape:
                raise LiftscapeError(
                    f"outputs of shapes {tuple(ours.shape)} and {tuple(theirs.shape)} cannot be compared; give "
                    "networks of one output."
                )
        found.append([*(float((ours - theirs).abs().max()) for theirs in each), float(ours.abs().max())])
    if not found:
        raise LiftscapeError("a comparison of outputs needs inputs, but the given data hold no batch; give some.")
    # Python's max would pass over what is not a number.
    *gaps, largest = torch.tensor(found, dtype=torch.float64).amax(dim=0).tolist()
    return gaps, largest


def change_of_outputs(first: nn.Module, second: nn.Module, inputs: Any) -> str | None:
    """Say by how much two networks differ on data that should be the same there but for rounding.

    Args:
        first: a network.
        second: another one.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, read once.

    Returns:
        Half a sentence, None where the gap is at most √eps of the largest output.
    """
    return changes_of_outputs(first, [second], inputs)[0]


def changes_of_outputs(first: nn.Module, others: Sequence[nn.Module], inputs: Any) -> list[str | None]:
    """Say by how much networks differ from the first on data, in one reading.

    Args:
        first: a network.
        others: networks that are compared with it.
        inputs: as for :func:`change_of_outputs`.

    Returns:
        What that says of each of them.
    """
    gaps, scale = output_gaps(first, others, inputs)
    # Rounding is far below it, and what another path through the network changes far above.
    allowed = torch.finfo(next(first.parameters()).dtype).eps ** 0.5 * scale
    return [
        None if gap <= allowed else f"outputs on the data, as large as {scale:.1e}, would change by {gap:.1e}"
        for gap in gaps
    ]


def _drawn_alike(network: nn.Module, batch: Any) -> Tensor:
    """Return a network's outputs with the same random numbers each time, which are given back to the caller."""
    with drawing_alike(network), inputs_named(network, batch):
        return outputs_of(network, batch)


@contextmanager
def drawing_alike(network: nn.Module) -> Generator[None]:
    """Let a network draw the same random numbers each time, and give generators back to the caller.

    Args:
        network: any module.

    Yields:
        Nothing.
    """
    with untouched(network):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # ruff: ignore[numpy-legacy-random]
        yield


def outputs_of(network: nn.Module, batch: Any, grad: bool = False) -> Tensor:
    """Return a network's outputs on a batch without a trace in it.

    Args:
        network: any module; it is left as it was.
        batch: its inputs.
        grad: whether a graph to the inputs is kept.

    Returns:
        The outputs; of several tensors the entry ``logits``, or all of them as one vector.
    """
    with torch.set_grad_enabled(grad):
        fixed = {name: tensor.detach() for name, tensor in trainable_parameters(network).items()}
        return output_tensor(call_model(network, fixed, batch))
