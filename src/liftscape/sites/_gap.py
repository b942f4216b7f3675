"""How far the outputs of two networks are from each other on data."""

from typing import Any

import torch
from torch import Tensor, nn

from liftscape.outcomes import LiftscapeError
from liftscape.risk import call_model, output_tensor, trainable_parameters
from liftscape.sites._features import iterate_inputs

__all__ = ["output_gap", "outputs_of"]


def output_gap(first: nn.Module, second: nn.Module, inputs: Any) -> tuple[float, float]:
    """Return max |f₁ − f₂| and max |f₁| over data.

    Args:
        first: a network.
        second: another one.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches.

    Returns:
        Both numbers.

    Raises:
        LiftscapeError: if there are no inputs.

    Example:
        >>> output_gap(nn.Identity(), nn.ReLU(), torch.tensor([[-1.0], [3.0]]))
        (1.0, 3.0)
    """
    gap = largest = 0.0
    seen = False
    for batch in iterate_inputs(inputs):
        ours, theirs = (outputs_of(network, batch) for network in (first, second))
        gap = max(gap, float((ours - theirs).abs().max()))
        largest, seen = max(largest, float(ours.abs().max())), True
    if not seen:
        raise LiftscapeError("a comparison of outputs needs inputs, but the given data hold no batch; give some.")
    return gap, largest


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
