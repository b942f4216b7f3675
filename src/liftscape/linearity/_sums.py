"""Two affine maps of one input as one: their sum, the identity being a map too, and chains of maps with norms."""

from collections.abc import Sequence
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.forward import AFFINE, Affine, remade
from liftscape.linearity._composition import absorbed, composition, in_fewer_groups, padding_of

__all__ = ["chain_of", "identity_like", "sum_of"]

Convolution = nn.Conv1d | nn.Conv2d


def chain_of(layers: Sequence[nn.Module]) -> "Affine | str":
    """Return a row of affine maps and BatchNorms with fixed statistics as one map, or why there is none.

    Args:
        layers: in the order in which they are called, at least one of them an affine map.

    Returns:
        The map.
    """
    whole: Affine | None = None
    waiting: nn.Module | None = None
    for layer in layers:
        if isinstance(layer, _BatchNorm):
            if whole is None:
                if waiting is not None:
                    return "two norms in a row are not composed"
                waiting = layer
            else:
                whole = absorbed(whole, layer)
            continue
        assert isinstance(layer, AFFINE)
        if waiting is not None:
            whole, waiting = absorbed(_unit(layer, _inputs(layer)), waiting), None
        if whole is None:
            whole = layer
            continue
        width = len(whole.weight)
        composed = composition(whole, layer, *(torch.full((width,), v, dtype=torch.float64) for v in (1.0, 0.0)))
        if isinstance(composed, str):
            return composed
        whole = composed
    return "a norm alone is no affine map that is composed" if whole is None else whole


def identity_like(map_: Affine) -> "Affine | str":
    """Return the identity as a map of the geometry of another, or why it is none.

    Of a convolution it is one at the middle of the kernel; that reads every place where it writes it for stride 1, an
    odd kernel and padding that keeps the size.

    Args:
        map_: the other map.

    Returns:
        The identity, without a bias.
    """
    if len(map_.weight) != _inputs(map_):
        return f"a map from {_inputs(map_)} features to {len(map_.weight)} is not added to what it reads"
    if isinstance(map_, nn.Linear):
        return remade(map_, torch.eye(len(map_.weight), dtype=torch.float64), None)
    if set(map_.stride) != {1} or not _is_centred(map_):
        return (
            f"a convolution with kernel {map_.kernel_size}, stride {map_.stride} and padding {map_.padding} does not "
            "write where it reads"
        )
    return remade(map_, _dirac(len(map_.weight), map_.groups, map_.kernel_size), None)


def sum_of(first: Affine, second: Affine) -> "Affine | str":
    """Return x ↦ first(x) + second(x) as one map, computed in float64, or why there is none.

    Of convolutions with one stride that read about the place where they write, the smaller kernel goes into the middle
    of the larger one; numbers of groups may differ where that takes fewer operations.

    Source: derived; a shortcut of 1 × 1 as in RepVGG (Ding et al. 2021, arXiv 2101.03697).

    Args:
        first: a Linear, Conv1d or Conv2d.
        second: the same.

    Returns:
        The map.
    """
    sizes = [(_inputs(map_), len(map_.weight)) for map_ in (first, second)]
    if type(first) is not type(second) or sizes[0] != sizes[1]:
        kinds = [f"{type(map_).__name__} {size}" for map_, size in zip((first, second), sizes, strict=True)]
        return f"maps {kinds[0]} and {kinds[1]} are not added to one"
    biases = [map_.bias.detach().double() for map_ in (first, second) if map_.bias is not None]
    bias = torch.stack(biases).sum(dim=0) if biases else None
    A, B = first.weight.detach().double(), second.weight.detach().double()
    if isinstance(first, nn.Linear) or isinstance(second, nn.Linear):
        return remade(first, A + B, bias)
    groups = gcd(first.groups, second.groups)
    A, B = (in_fewer_groups(weight, map_.groups, groups) for weight, map_ in ((A, first), (B, second)))
    same = all(getattr(first, key) == getattr(second, key) for key in ("kernel_size", "stride", "dilation"))
    if same and padding_of(first) == padding_of(second) and first.padding_mode == second.padding_mode:
        weight, changes = A + B, {"groups": groups}
    else:
        merged = _common(first, second)
        if isinstance(merged, str):
            return merged
        kernel, changes = merged
        weight, changes = _embedded(A, kernel) + _embedded(B, kernel), changes | {"groups": groups}
    before = first.weight.numel() + second.weight.numel()
    if weight.numel() >= before:
        return f"one convolution would take {weight.numel()} multiplications a place instead of {before}"
    return remade(first, weight, bias, **changes)


def _common(first: Convolution, second: Convolution) -> "tuple[tuple[int, ...], dict[str, Any]] | str":
    """Return the kernel and the geometry that hold both convolutions, or why there is none."""
    if first.stride != second.stride or not (_is_centred(first) and _is_centred(second)):
        return "the two convolutions do not read about the same places"
    axes = list(zip(first.kernel_size, first.dilation, second.kernel_size, second.dilation, strict=True))
    if any(k1 > 1 and k2 > 1 and d1 != d2 for k1, d1, k2, d2 in axes):
        return f"the two convolutions have dilations {first.dilation} and {second.dilation}"
    padded = [map_.padding_mode for map_ in (first, second) if any(padding_of(map_))]
    if len(set(padded)) > 1:
        return f"the two convolutions have the padding modes {padded}"
    kernel = tuple(max(k1, k2) for k1, _, k2, _ in axes)
    dilation = tuple(d1 if k1 > 1 else d2 for k1, d1, _, d2 in axes)
    padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
    return kernel, {"dilation": dilation, "padding": padding, "padding_mode": padded[0] if padded else "zeros"}


def _embedded(weight: Tensor, kernel: Sequence[int]) -> Tensor:
    """Return a kernel in the middle of a larger one."""
    wide = weight.new_zeros(*weight.shape[:2], *kernel)
    middle = [
        slice((large - small) // 2, (large + small) // 2) for large, small in zip(kernel, weight.shape[2:], strict=True)
    ]
    wide[slice(None), slice(None), *middle] = weight
    return wide


def _dirac(channels: int, groups: int, kernel: Sequence[int]) -> Tensor:
    """Return the kernel that hands on what stands at its middle."""
    weight = torch.zeros(channels, channels // groups, *kernel, dtype=torch.float64)
    rows = torch.arange(channels)
    weight[rows, rows % weight.shape[1], *(k // 2 for k in kernel)] = 1.0
    return weight


def _unit(like: Affine, width: int) -> Affine:
    """Return the identity on what a map reads, place by place."""
    if isinstance(like, nn.Linear):
        return remade(like, torch.eye(width, dtype=torch.float64), None)
    weight = _dirac(width, like.groups, [1] * len(like.kernel_size))
    return remade(like, weight, None, stride=1, padding=0, dilation=1)


def _inputs(map_: Affine) -> int:
    """Return the number of features, or channels, that a map reads."""
    return map_.in_features if isinstance(map_, nn.Linear) else map_.in_channels


def _is_centred(map_: Convolution) -> bool:
    """Tell whether the middle of a kernel lies at stride times the place that is written."""
    sizes = zip(map_.kernel_size, map_.dilation, padding_of(map_), strict=True)
    return all(k % 2 == 1 and 2 * pad == d * (k - 1) for k, d, pad in sizes)
