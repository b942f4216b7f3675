"""Two affine maps as one: their composition where one map computes it exactly, and a norm absorbed by a map."""

from collections.abc import Callable
from functools import partial
from math import gcd
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.forward import Affine, groups_of, remade

__all__ = ["absorbed", "composition", "has_no_padding", "in_fewer_groups", "padding_of"]

Convolution = nn.Conv1d | nn.Conv2d

_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d}


def composition(
    first: Affine,
    last: Affine,
    slope: Float[Tensor, " width"],
    intercept: Float[Tensor, " width"],
) -> "Affine | str":
    """Return x ↦ last(slope · first(x) + intercept) as one map, computed in float64.

    Two convolutions are exactly one where the last is 1 × 1 or has no padding, or where the first is 1 × 1 and leaves
    no constant that the padding would lack. Convolutions in groups compose group by group; where their numbers of
    groups differ, to one in as many groups as divide both, if that takes fewer operations.

    Source: theory 5.

    Args:
        first: a Linear, Conv1d or Conv2d.
        last: the same.
        slope: λ of each neuron between them, or channel.
        intercept: μ of each.

    Returns:
        The map, or why there is none.
    """
    A, B = (each.weight.detach().double() for each in (first, last))
    slope, intercept = slope.to(A.device), intercept.to(A.device)
    constant = intercept if first.bias is None else slope * first.bias.detach().double() + intercept
    keeps_bias = first.bias is not None or last.bias is not None or bool(intercept.any())
    groups = gcd(groups_of(first), groups_of(last))
    A = in_fewer_groups(slope.reshape(-1, *[1] * (A.ndim - 1)) * A, groups_of(first), groups)
    B = in_fewer_groups(B, groups_of(last), groups)
    changes: dict[str, Any] = {}
    if isinstance(first, nn.Linear) and isinstance(last, nn.Linear):
        weight = B @ A
    elif isinstance(first, nn.Linear) or isinstance(last, nn.Linear) or type(first) is not type(last):
        return "these two maps are not composed to one"
    elif _is_pointwise(last):
        weight = _by_group(groups, _pointwise_product, A, B)
        changes = {"groups": groups}
        weights = first.weight.numel() + last.weight.numel()
        if first.groups != last.groups and weight.numel() >= weights:
            return (
                f"one convolution in place of two in {first.groups} and {last.groups} groups would take "
                f"{weight.numel()} multiplications a place instead of {weights}"
            )
    else:
        if (reason := _not_composed(first, last, bool(constant.any()))) is not None:
            return reason
        weight = _by_group(groups, partial(_TRANSPOSED[A.ndim - 2], stride=first.stride), B, A)
        stride = tuple(a * b for a, b in zip(first.stride, last.stride, strict=True))
        # One of the two pads nothing.
        padding = padding_of(last if has_no_padding(first) else first)
        changes = {"stride": stride, "padding": padding, "padding_mode": "zeros"}
    reached = B.flatten(2).sum(dim=2) if B.ndim > 2 else B
    pushed = (reached.reshape(groups, -1, reached.shape[1]) @ constant.reshape(groups, -1, 1)).flatten()
    bias = pushed + (0 if last.bias is None else last.bias.detach().double())
    made = remade(first, weight, bias if keeps_bias else None, **changes)
    # What one of them could still learn, their composition can.
    return made.requires_grad_(first.weight.requires_grad or last.weight.requires_grad)


def absorbed(first: Affine, norm: nn.Module) -> Affine:
    """Return x ↦ norm(first(x)) for a BatchNorm with fixed statistics as one map of the first's kind.

    W ← sW, b ← s(b − m) + β, s = γ/√(v + ε).

    Args:
        first: a Linear, Conv1d or Conv2d.
        norm: a BatchNorm in eval mode.

    Returns:
        The map, with a bias.
    """
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight = first.weight.detach().double()
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = torch.zeros_like(scale)
    if norm.affine:
        scale, shift = scale * norm.weight.detach().double(), norm.bias.detach().double()
    own = 0 if first.bias is None else first.bias.detach().double()
    scaled = scale.reshape(-1, *[1] * (weight.ndim - 1)) * weight
    return remade(first, scaled, scale * (own - norm.running_mean.double()) + shift)


def in_fewer_groups(weight: Float[Tensor, "m d ..."], groups: int, fewer: int) -> Float[Tensor, "m d_fewer ..."]:
    """Return the weight of the same convolution written in fewer groups, with zeros where it read nothing.

    Args:
        weight: (m, channels of a group, …).
        groups: its groups.
        fewer: a divisor of them.

    Returns:
        (m, channels of one of the fewer groups, …).

    Example:
        >>> in_fewer_groups(torch.tensor([[1.0], [2.0]]), 2, 1)
        tensor([[1., 0.],
                [0., 2.]])
    """
    if groups == fewer:
        return weight
    each, (rows, channels) = groups // fewer, (len(weight) // groups, weight.shape[1])
    wide = weight.new_zeros(len(weight), each * channels, *weight.shape[2:])
    for group in range(groups):
        own, place = slice(group * rows, (group + 1) * rows), group % each
        wide[own, place * channels : (place + 1) * channels] = weight[own]
    return wide


def has_no_padding(map_: Convolution) -> bool:
    """Tell whether a convolution reads within its input alone.

    Args:
        map_: any.

    Returns:
        Whether it does.
    """
    return not any(padding_of(map_))


def padding_of(map_: Convolution) -> tuple[int, ...]:
    """Return the padding on each axis as numbers, that of "same" for an odd kernel.

    Args:
        map_: any.

    Returns:
        One number an axis.
    """
    if map_.padding == "same":
        return tuple(d * (k - 1) // 2 for k, d in zip(map_.kernel_size, map_.dilation, strict=True))
    return (0,) * len(map_.kernel_size) if isinstance(map_.padding, str) else tuple(map_.padding)


def _by_group(groups: int, compose: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    """Compose the weights of each group."""
    return torch.cat([compose(*own) for own in zip(first.chunk(groups), second.chunk(groups), strict=True)])


def _pointwise_product(a: Tensor, b: Tensor) -> Tensor:
    """Return the kernel a seen through the matrix b."""
    return (b.flatten(1) @ a.flatten(1)).reshape(len(b), *a.shape[1:])


def _is_pointwise(last: Convolution) -> bool:
    """Tell whether a map reads each place alone, so that the map before it may have any geometry."""
    return set(last.kernel_size) == set(last.stride) == {1} and has_no_padding(last)


def _not_composed(first: Convolution, last: Convolution, constant: bool) -> str | None:
    """Say why two convolutions, the last of which reads beyond one place, are not one."""
    for map_ in (first, last):
        if first.groups != last.groups or set(map_.dilation) != {1}:
            return f"a convolution with groups {map_.groups} and dilation {map_.dilation} is no plain one"
        if map_.padding == "same" and any(k % 2 == 0 for k in map_.kernel_size):
            return "a convolution with an even kernel and padding 'same' pads its sides differently"
        if map_.padding_mode != "zeros" and not has_no_padding(map_):
            return f"a convolution with padding_mode '{map_.padding_mode}' is no plain one"
    plain = set(first.kernel_size) == set(first.stride) == {1} and has_no_padding(first)
    if not has_no_padding(last) and (not plain or constant):
        return "the zeros with which the second convolution pads its input make a composition wrong at the borders"
    return None
