"""The map that may stand in for two affine maps, and what it reads and writes as rows."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from liftscape.forward import Affine

__all__ = ["made_from", "rows_read", "rows_written", "stand_in"]

_Convolution = nn.Conv1d | nn.Conv2d


def stand_in(first: nn.Module, last: nn.Module) -> "Affine | str":
    """Return a map without weights that takes what the first reads to where the last writes.

    Two convolutions with padding (k − 1)/2 are replaced by one with the larger kernel, two without padding by one with
    the kernel of their composition; strides multiply.

    Args:
        first: a Linear, Conv1d or Conv2d.
        last: the same kind.

    Returns:
        The map on the meta device, or why there is none.
    """
    if isinstance(first, nn.Linear) and isinstance(last, nn.Linear):
        return nn.Linear(first.in_features, last.out_features, device="meta")
    for kind in (nn.Conv1d, nn.Conv2d):
        if isinstance(first, kind) and isinstance(last, kind):
            return _convolution(kind, first, last)
    return "no one map is built to stand in for these two"


def rows_read(map_: Affine, h: Tensor) -> Float[Tensor, "rows d"]:
    """Return what a map reads for each row that it writes: features, or patches of them, in float64.

    Args:
        map_: a Linear, or a convolution without groups of any geometry.
        h: its input.

    Returns:
        The rows, in the order of those written.
    """
    h = h.double()
    if isinstance(map_, nn.Linear):
        return h.reshape(-1, h.shape[-1])
    h = h if h.ndim == len(map_.kernel_size) + 2 else h[None]
    mode = "constant" if map_.padding_mode == "zeros" else map_.padding_mode
    h = functional.pad(h, map_._reversed_padding_repeated_twice, mode=mode)
    ones = (1,) * (2 - len(map_.kernel_size))
    h = h.reshape(*h.shape[:2], *ones, *h.shape[2:])
    kernel, dilation, stride = ((*ones, *value) for value in (map_.kernel_size, map_.dilation, map_.stride))
    patches = functional.unfold(h, kernel, dilation=dilation, stride=stride)
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


def rows_written(map_: Affine, z: Tensor) -> Float[Tensor, "rows m"]:
    """Return what a map writes as rows in float64, outside the graph.

    Args:
        map_: a Linear or a convolution.
        z: its output.

    Returns:
        The rows.
    """
    z = z if isinstance(map_, nn.Linear) else z.movedim(-1 - len(map_.kernel_size), -1)
    return z.detach().double().reshape(-1, z.shape[-1])


def made_from(map_: Affine, weight: Float[Tensor, "m d"], bias: Float[Tensor, " m"], like: Tensor) -> Affine:
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


def _convolution(
    kind: "type[nn.Conv1d] | type[nn.Conv2d]", first: _Convolution, last: _Convolution
) -> "_Convolution | str":
    """Return the convolution that may stand in for two, or why there is none."""
    if (reason := _not_plain(first, last)) is not None:
        return reason
    pads = [tuple((k - 1) // 2 for k in each.kernel_size) for each in (first, last)]
    odd = all(k % 2 for each in (first, last) for k in each.kernel_size)
    if not any((*_padding(first), *_padding(last))):
        kernel = _composed_kernel(first, last)
        padding = (0,) * len(kernel)
    elif odd and [_padding(first), _padding(last)] == pads:
        kernel = tuple(max(pair) for pair in zip(first.kernel_size, last.kernel_size, strict=True))
        padding = tuple((k - 1) // 2 for k in kernel)
    else:
        return "the paddings of the two convolutions are neither 0 nor (k − 1)/2"
    strides = tuple(a * b for a, b in zip(first.stride, last.stride, strict=True))
    geometry = {"kernel_size": kernel, "stride": strides, "padding": padding}
    return kind(first.in_channels, last.out_channels, **geometry, device="meta")


def _padding(map_: _Convolution) -> tuple[int, ...]:
    """Return the padding on each axis as numbers."""
    if map_.padding == "valid":
        return (0,) * len(map_.kernel_size)
    if map_.padding == "same":
        return tuple((k - 1) // 2 for k in map_.kernel_size)
    assert isinstance(map_.padding, tuple)
    return map_.padding


def _not_plain(*maps: _Convolution) -> str | None:
    """Say what keeps convolutions from being plain ones."""
    for map_ in maps:
        if map_.groups != 1 or any(step != 1 for step in map_.dilation):
            return f"a convolution with groups {map_.groups} and dilation {map_.dilation} is no plain one"
        if map_.padding_mode != "zeros" and any(_padding(map_)):
            return f"a convolution with padding_mode '{map_.padding_mode}' is no plain one"
        if map_.padding == "same" and any(k % 2 == 0 for k in map_.kernel_size):
            return "a convolution with an even kernel and padding 'same' pads its sides differently"
    return None


def _composed_kernel(first: _Convolution, last: _Convolution) -> tuple[int, ...]:
    """Return the kernel size of the composition: k₁ + s₁(k₂ − 1)."""
    sizes = zip(first.kernel_size, first.stride, last.kernel_size, strict=True)
    return tuple(k1 + s1 * (k2 - 1) for k1, s1, k2 in sizes)
