"""The map that may stand in for two affine maps, and what it reads."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["made_from", "rows_read", "rows_written", "stand_in"]


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
    strides = tuple(a * b for a, b in zip(first.stride, last.stride, strict=True))
    channels = first.in_channels, last.out_channels
    return nn.Conv2d(
        *channels, (kernel[0], kernel[1]), (strides[0], strides[1]), (padding[0], padding[1]), device="meta"
    )


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
    # Rows in order, as in a file: a product rounds otherwise where they are not.
    map_.weight = nn.Parameter(weight.reshape(map_.weight.shape).to(like).contiguous())
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


def _composed_kernel(first: nn.Conv2d, last: nn.Conv2d) -> tuple[int, ...]:
    """Return the kernel size of the composition: k₁ + s₁(k₂ − 1)."""
    sizes = zip(first.kernel_size, first.stride, last.kernel_size, strict=True)
    return tuple(k1 + s1 * (k2 - 1) for k1, s1, k2 in sizes)
