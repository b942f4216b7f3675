"""Networks that are no chain: a residual block, and one map called several times."""

import torch
from torch import Tensor, nn

from liftscape._random import as_generator
from liftscape.nets._drawn_layers import Activation, linear, make_activation

__all__ = ["ResidualNet", "SharedMapNet", "residual_net", "shared_map_net"]


class ResidualNet(nn.Module):
    """x ↦ out(h + block(h)) with h = first(x), as built by :func:`residual_net`."""

    def __init__(self, first: nn.Linear, block: nn.Sequential, out: nn.Linear) -> None:
        super().__init__()
        self.first = first
        self.block = block
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (n, D) of inputs (n, d)."""
        h = self.first(x)
        return self.out(h + self.block(h))


class SharedMapNet(nn.Module):
    """x ↦ out(h_t), h_{s+1} = σ(shared(h_s)), h_0 = σ(first(x)), as built by :func:`shared_map_net`."""

    def __init__(self, first: nn.Linear, shared: nn.Linear, out: nn.Linear, activation: nn.Module, calls: int) -> None:
        super().__init__()
        self.first = first
        self.shared = shared
        self.out = out
        self.activation = activation
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (n, D) of inputs (n, d)."""
        h = self.activation(self.first(x))
        for _ in range(self.calls):
            h = self.activation(self.shared(h))
        return self.out(h)


def residual_net(
    inputs: int,
    width: int,
    outputs: int,
    activation: Activation = "tanh",
    generator: torch.Generator | int | None = None,
    dtype: torch.dtype = torch.float64,
) -> ResidualNet:
    """Return x ↦ out(h + σ(W σ(h) + b)), h = first(x): one block with a skip connection.

    Args:
        inputs: the number of inputs.
        width: the width of the residual stream.
        outputs: the number of outputs.
        activation: name of a module in torch.nn, or a callable that returns a new one.
        generator: source of the weights, N(0, 1 / fan_in); seed 0 when None.
        dtype: dtype of the parameters.

    Returns:
        The network, with linear maps "first", "block.1" and "out".

    Example:
        >>> residual_net(3, 4, 2)(torch.zeros(5, 3, dtype=torch.float64)).shape
        torch.Size([5, 2])
    """
    generator = as_generator(generator)
    first = linear(inputs, width, generator, dtype)
    middle = linear(width, width, generator, dtype)
    block = nn.Sequential(make_activation(activation), middle, make_activation(activation))
    return ResidualNet(first, block, linear(width, outputs, generator, dtype))


def shared_map_net(
    inputs: int,
    width: int,
    outputs: int,
    activation: Activation = "tanh",
    calls: int = 2,
    generator: torch.Generator | int | None = None,
    dtype: torch.dtype = torch.float64,
) -> SharedMapNet:
    """Return a network that calls one hidden map several times, as a recurrent network does.

    Args:
        inputs: the number of inputs.
        width: the width of the hidden state.
        outputs: the number of outputs.
        activation: name of a module in torch.nn, or a callable that returns a new one.
        calls: how often the shared map is called.
        generator: source of the weights, N(0, 1 / fan_in); seed 0 when None.
        dtype: dtype of the parameters.

    Returns:
        The network, with linear maps "first", "shared" and "out".

    Example:
        >>> shared_map_net(3, 4, 2)(torch.zeros(5, 3, dtype=torch.float64)).shape
        torch.Size([5, 2])
    """
    generator = as_generator(generator)
    first, shared = linear(inputs, width, generator, dtype), linear(width, width, generator, dtype)
    return SharedMapNet(first, shared, linear(width, outputs, generator, dtype), make_activation(activation), calls)
