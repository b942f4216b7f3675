"""Fully connected networks."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from liftscape._random import as_generator
from liftscape.nets._drawn_layers import Activation, linear, make_activation
from liftscape.outcomes import ModelError

__all__ = ["batch_norm_mlp", "linear_autoencoder", "mlp"]


def mlp(
    widths: Sequence[int],
    activation: Activation = "tanh",
    generator: torch.Generator | int | None = None,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
    bias: bool = True,
) -> nn.Sequential:
    """Return the fully connected network f^[l] = σ(W^[l] f^[l-1] + b^[l]) with affine output.

    Linear maps are modules "0", "2", "4", …; weights and biases are drawn from N(0, scale² / fan_in). Torch's global
    random state is not used.

    Args:
        widths: layer widths from inputs to outputs, at least two, as (3, 2, 1).
        activation: name of a module in torch.nn, or a callable that returns a new one.
        generator: source of the weights; seed 0 when None.
        dtype: dtype of the parameters.
        scale: standard deviation of the weights times the square root of the fan-in.
        bias: whether the maps have biases.

    Returns:
        The network.

    Raises:
        ModelError: if fewer than two widths are given or one is not positive.
        ActivationError: if the activation's name is unknown.

    Example:
        >>> mlp((3, 2, 1))
        Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
          (1): Tanh()
          (2): Linear(in_features=2, out_features=1, bias=True)
        )
    """
    _check_widths(widths)
    generator = as_generator(generator)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [linear(fan_in, fan_out, generator, dtype, scale, bias), make_activation(activation)]
    return nn.Sequential(*layers[:-1])


def batch_norm_mlp(
    widths: Sequence[int],
    activation: Activation = "tanh",
    generator: torch.Generator | int | None = None,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
) -> nn.Sequential:
    """Return a fully connected network with BatchNorm between each hidden map and its activation.

    Linear maps are modules "0", "3", "6", …; gains are 1 and shifts 0. In training mode the risk is defined on the
    full batch only.

    Args:
        widths: layer widths from inputs to outputs, at least two.
        activation: name of a module in torch.nn, or a callable that returns a new one.
        generator: source of the weights; seed 0 when None.
        dtype: dtype of the parameters.
        scale: standard deviation of the weights times the square root of the fan-in.

    Returns:
        The network, in training mode.

    Raises:
        ModelError: if fewer than two widths are given or one is not positive.
        ActivationError: if the activation's name is unknown.

    Example:
        >>> [type(layer).__name__ for layer in batch_norm_mlp((3, 2, 1), "relu")]
        ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    """
    _check_widths(widths)
    generator = as_generator(generator)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths[:-1]):
        layers += [
            linear(fan_in, fan_out, generator, dtype, scale),
            nn.BatchNorm1d(fan_out, dtype=dtype),
            make_activation(activation),
        ]
    return nn.Sequential(*layers, linear(widths[-2], widths[-1], generator, dtype, scale))


def linear_autoencoder(
    features: int, bottleneck: int, generator: torch.Generator | int | None = None, dtype: torch.dtype = torch.float64
) -> nn.Sequential:
    """Return x ↦ BAx without biases, whose critical points are known in closed form.

    At a critical point BA projects on m ≤ p eigenvectors of XᵀX/n; loss Σ_{i∉S} λ_i / k.

    Source: Baldi and Hornik 1989, "Neural networks and principal component analysis", Neural Networks 2.

    Args:
        features: the number k of inputs and outputs.
        bottleneck: the width p of the hidden layer.
        generator: source of the weights; seed 0 when None.
        dtype: dtype of the parameters.

    Returns:
        The network of A (p, k), module "0", and B (k, p), module "1".

    Raises:
        ModelError: if a width is not positive.

    Example:
        >>> [tuple(parameter.shape) for parameter in linear_autoencoder(6, 4).parameters()]
        [(4, 6), (6, 4)]
    """
    widths = (features, bottleneck, features)
    _check_widths(widths)
    generator = as_generator(generator)
    return nn.Sequential(
        linear(features, bottleneck, generator, dtype, bias=False),
        linear(bottleneck, features, generator, dtype, bias=False),
    )


def _check_widths(widths: Sequence[int]) -> None:
    """Raise unless the widths describe at least one map."""
    if len(widths) < 2 or any(width < 1 for width in widths):
        raise ModelError(f"widths must be two or more positive integers, as (3, 2, 1), but {tuple(widths)} was given.")
