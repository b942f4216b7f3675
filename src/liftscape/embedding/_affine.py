"""Linear maps and convolutions alike: their matrices, and new ones of their kind."""

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["inner_map", "matrix_of", "pointwise_map"]


def matrix_of(weight: Tensor) -> Float[Tensor, "m d"]:
    """Return a weight as the matrix that acts on features, those of a convolution being patches.

    Args:
        weight: (m, d), or (m, channels, height, width).

    Returns:
        (m, d), a view.
    """
    return weight.flatten(1)


def inner_map(
    like: "nn.Linear | nn.Conv2d", matrix: Float[Tensor, "k d"], bias: Float[Tensor, " k"] | None
) -> "nn.Linear | nn.Conv2d":
    """Return a map that reads the features of another, in its dtype and on its device.

    Of a convolution it has kernel, stride, padding and dilation, so that borders stay as they are.

    Source: theory 3.

    Args:
        like: the other map.
        matrix: its weights.
        bias: its bias; none when None.

    Returns:
        A new Linear or Conv2d.
    """
    if isinstance(like, nn.Linear):
        made: nn.Linear | nn.Conv2d = nn.Linear(matrix.shape[1], len(matrix), bias=bias is not None, device="meta")
    else:
        assert isinstance(like.padding, (str, tuple))
        made = nn.Conv2d(
            like.in_channels,
            len(matrix),
            (like.kernel_size[0], like.kernel_size[1]),
            (like.stride[0], like.stride[1]),
            like.padding if isinstance(like.padding, str) else (like.padding[0], like.padding[1]),
            (like.dilation[0], like.dilation[1]),
            bias=bias is not None,
            padding_mode=like.padding_mode,
            device="meta",
        )
    return _filled(made, like, matrix, bias)


def pointwise_map(
    like: "nn.Linear | nn.Conv2d", matrix: Float[Tensor, "m k"], bias: Float[Tensor, " m"] | None
) -> "nn.Linear | nn.Conv2d":
    """Return a map that reads the outputs of :func:`inner_map`: a Linear, or a convolution of 1 × 1.

    Args:
        like: the map whose dtype and device it gets.
        matrix: its weights.
        bias: its bias; none when None.

    Returns:
        A new Linear or Conv2d.
    """
    made: nn.Linear | nn.Conv2d
    if isinstance(like, nn.Linear):
        made = nn.Linear(matrix.shape[1], len(matrix), bias=bias is not None, device="meta")
    else:
        made = nn.Conv2d(matrix.shape[1], len(matrix), 1, bias=bias is not None, device="meta")
    return _filled(made, like, matrix, bias)


def _filled(
    made: "nn.Linear | nn.Conv2d", like: "nn.Linear | nn.Conv2d", matrix: Tensor, bias: Tensor | None
) -> "nn.Linear | nn.Conv2d":
    """Give a map on the meta device its weights."""
    where = like.weight.device, like.weight.dtype
    made.weight = nn.Parameter(matrix.to(*where).reshape(made.weight.shape).contiguous())
    if bias is not None:
        made.bias = nn.Parameter(bias.to(*where))
    return made
