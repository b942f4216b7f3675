"""Two affine maps as one: the map that may stand in for both, what it reads, and their composition."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.sites import Affine, remade

__all__ = ["absorbed", "composition", "made_from", "rows_read", "rows_written", "stand_in"]


def stand_in(first: nn.Module, last: nn.Module) -> "nn.Linear | nn.Conv2d | str":
    """Return a map without weights that takes what the first reads to where the last writes.

    Two convolutions with padding (k − 1)/2 are replaced by one with the larger kernel, two without padding by one with
    the kernel of their composition; strides multiply.

    Args:
        first: a Linear or Conv2d.
        last: the same.

    Returns:
        The map on the meta device, or why there is none.
    """
    if isinstance(first, nn.Linear) and isinstance(last, nn.Linear):
        return nn.Linear(first.in_features, last.out_features, device="meta")
    if not isinstance(first, nn.Conv2d) or not isinstance(last, nn.Conv2d):
        return "no one map is built to stand in for these two"
    if (reason := _not_plain(first, last)) is not None:
        return reason
    pads = [tuple((k - 1) // 2 for k in each.kernel_size) for each in (first, last)]
    odd = all(k % 2 for each in (first, last) for k in each.kernel_size)
    if _padding(first) == _padding(last) == (0, 0):
        kernel = _composed_kernel(first, last)
        padding = (0, 0)
    elif odd and [_padding(first), _padding(last)] == pads:
        kernel = tuple(max(pair) for pair in zip(first.kernel_size, last.kernel_size, strict=True))
        padding = tuple((k - 1) // 2 for k in kernel)
    else:
        return "the paddings of the two convolutions are neither 0 nor (k − 1)/2"
    return _convolution(first, last, kernel, padding, bias=True)


def composition(
    first: Affine,
    last: Affine,
    slope: Float[Tensor, " width"],
    intercept: Float[Tensor, " width"],
) -> "Affine | str":
    """Return x ↦ last(slope · first(x) + intercept) as one map, computed in float64.

    Two convolutions are exactly one where the last has no padding, or where the first is 1 × 1 and leaves no constant
    that the padding would lack.

    Source: theory 5.

    Args:
        first: a Linear or Conv2d.
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
    like: Affine = first
    if isinstance(first, nn.Linear) and isinstance(last, nn.Linear):
        weight, reached = B @ (slope[:, None] * A), B
    elif (
        not isinstance(first, nn.Linear)
        and not isinstance(last, nn.Linear)
        and type(first) is type(last)
        and _is_pointwise(first, last)
    ):
        reached = B.flatten(1)
        weight = (reached @ (slope[:, None] * A.flatten(1))).reshape(len(B), *A.shape[1:])
    elif isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d):
        if (reason := _not_plain(first, last)) is not None:
            return reason
        plain_first = first.kernel_size == (1, 1) and first.stride == (1, 1) and _padding(first) == (0, 0)
        if _padding(last) != (0, 0) and (not plain_first or bool(constant.any())):
            return "the zeros with which the second convolution pads its input make a composition wrong at the borders"
        padding = _padding(first) if _padding(last) == (0, 0) else _padding(last)
        like = _convolution(first, last, _composed_kernel(first, last), padding, keeps_bias)
        like = like.to_empty(device=A.device).to(first.weight.dtype)
        weight = functional.conv_transpose2d(B, slope[:, None, None, None] * A, stride=first.stride)
        reached = B.sum(dim=(2, 3))
    else:
        return "these two maps are not composed to one"
    bias = reached @ constant + (0 if last.bias is None else last.bias.detach().double())
    return remade(like, weight, bias if keeps_bias else None)


def absorbed(first: Affine, norm: nn.Module) -> Affine:
    """Return x ↦ norm(first(x)) for a BatchNorm with fixed statistics as one map of the first's kind.

    W ← sW, b ← s(b − m) + β, s = γ/√(v + ε).

    Args:
        first: a Linear or Conv2d.
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


def rows_read(map_: nn.Module, h: Tensor) -> Float[Tensor, "rows d"]:
    """Return what a map reads for each row that it writes: features, or patches of them.

    Args:
        map_: a Linear or Conv2d.
        h: its input.

    Returns:
        The rows.
    """
    if isinstance(map_, nn.Conv2d):
        patches = functional.unfold(h, map_.kernel_size, padding=_padding(map_), stride=map_.stride)
        return patches.transpose(1, 2).reshape(-1, patches.shape[1])
    return h.reshape(-1, h.shape[-1])


def rows_written(map_: nn.Module, z: Tensor) -> Float[Tensor, "rows m"]:
    """Return what a map writes as rows.

    Args:
        map_: a Linear or Conv2d.
        z: its output.

    Returns:
        The rows.
    """
    z = z.movedim(1, -1) if isinstance(map_, nn.Conv2d) else z
    return z.reshape(-1, z.shape[-1])


def made_from(
    map_: "nn.Linear | nn.Conv2d", weight: Float[Tensor, "m d"], bias: Float[Tensor, " m"], like: Tensor
) -> "nn.Linear | nn.Conv2d":
    """Give a map on the meta device its weights.

    Args:
        map_: as :func:`stand_in` returns it.
        weight: one row for each output.
        bias: one number for each.
        like: a tensor of the dtype and device wanted.

    Returns:
        The same map.
    """
    map_.weight = nn.Parameter(weight.reshape(map_.weight.shape).to(like))
    map_.bias = nn.Parameter(bias.to(like))
    return map_


def _padding(map_: nn.Conv2d) -> tuple[int, ...]:
    """Return the padding on each axis as numbers."""
    if map_.padding == "valid":
        return (0, 0)
    if map_.padding == "same":
        return tuple((k - 1) // 2 for k in map_.kernel_size)
    assert isinstance(map_.padding, tuple)
    return map_.padding


def _not_plain(*maps: nn.Conv2d) -> str | None:
    """Say what keeps convolutions from being plain ones."""
    for map_ in maps:
        if map_.groups != 1 or map_.dilation != (1, 1):
            return f"a convolution with groups {map_.groups} and dilation {map_.dilation} is no plain one"
        if map_.padding_mode != "zeros" and _padding(map_) != (0, 0):
            return f"a convolution with padding_mode '{map_.padding_mode}' is no plain one"
        if map_.padding == "same" and any(k % 2 == 0 for k in map_.kernel_size):
            return "a convolution with an even kernel and padding 'same' pads its sides differently"
    return None


def _is_pointwise(first: "nn.Conv1d | nn.Conv2d", last: "nn.Conv1d | nn.Conv2d") -> bool:
    """Tell whether the last map reads each place alone, so that the first may have any geometry."""
    plain = set(last.kernel_size) == set(last.stride) == {1} and last.padding in {(0,), (0, 0), "valid", "same"}
    return plain and first.groups == last.groups == 1


def _composed_kernel(first: nn.Conv2d, last: nn.Conv2d) -> tuple[int, ...]:
    """Return the kernel size of the composition: k₁ + s₁(k₂ − 1)."""
    sizes = zip(first.kernel_size, first.stride, last.kernel_size, strict=True)
    return tuple(k1 + s1 * (k2 - 1) for k1, s1, k2 in sizes)


def _convolution(
    first: nn.Conv2d, last: nn.Conv2d, kernel: tuple[int, ...], padding: tuple[int, ...], bias: bool
) -> nn.Conv2d:
    """Return a convolution on the meta device from the first's input to the last's output."""
    strides = tuple(a * b for a, b in zip(first.stride, last.stride, strict=True))
    return nn.Conv2d(
        first.in_channels,
        last.out_channels,
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (padding[0], padding[1]),
        bias=bias,
        device="meta",
    )
