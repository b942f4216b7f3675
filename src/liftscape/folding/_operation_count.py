"""How many multiplications a network takes for one sample."""

from contextlib import ExitStack
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.functional import call_model, require_module, trainable_parameters, untouched
from liftscape.sites import first_batch

__all__ = ["operations"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def operations(model: nn.Module, inputs: Any) -> int:
    """Return the multiplications of all Linear maps and convolutions for one sample.

    A Linear takes one for each weight and each place it is applied at; a convolution one for each weight and place.

    Source: none.

    Args:
        model: any module; it is left as it was.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches; the first batch is used.

    Returns:
        The count; maps that are no modules, and transposed convolutions, are left out.

    Example:
        >>> operations(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)), torch.zeros(5, 3))
        16
    """
    require_module(model)
    batch = first_batch(inputs)
    leaf = batch if isinstance(batch, Tensor) else next(iter(batch.values() if isinstance(batch, dict) else batch))
    counts = [0]

    def count(module: nn.Module, _args: Any, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        places = prod(output.shape[2:]) * len(output) if isinstance(module, _CONVOLUTIONS) else prod(output.shape[:-1])
        counts[0] += weight.numel() * places

    with untouched(model), ExitStack() as stack, torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
                stack.callback(module.register_forward_hook(count).remove)
        call_model(model, trainable_parameters(model), batch)
    return counts[0] // len(leaf)
