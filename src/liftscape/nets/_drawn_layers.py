"""Layers drawn from a generator of one's own, so that torch's global random state stays as it is."""

from collections.abc import Callable

import torch
from torch import nn

from liftscape.outcomes import ActivationError

__all__ = ["Activation", "linear", "make_activation"]

Activation = str | Callable[[], nn.Module]


def make_activation(activation: Activation) -> nn.Module:
    """Return a new activation module from its name in torch.nn, in any case and with or without underscores."""
    if callable(activation):
        return activation()
    known = {name.lower(): name for name in nn.modules.activation.__all__} | {"identity": "Identity"}
    name = known.get(activation.lower().replace("_", ""))
    if name is None:
        raise ActivationError(
            "activation must be the name of a module in torch.nn (such as 'tanh' or 'leaky_relu') or a callable that "
            f"returns a module, but {activation!r} was given."
        )
    return getattr(nn, name)()


def linear(
    fan_in: int, fan_out: int, generator: torch.Generator, dtype: torch.dtype, scale: float = 1.0, bias: bool = True
) -> nn.Linear:
    """Return a linear layer with weights and biases drawn from N(0, scale² / fan_in)."""
    layer = nn.Linear(fan_in, fan_out, bias=bias, device="meta", dtype=dtype).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in layer.parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(draw * (scale / max(fan_in, 1) ** 0.5))
    return layer
