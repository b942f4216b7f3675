"""Linear maps and convolutions alike: their matrices, and new ones of their kind."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Affine", "inner_map", "matrix_of", "pointwise_map"]

Affine = nn.Linear | nn.Conv1d | nn.Conv2d


def matrix_of(weight: Tensor) -> Float[Tensor, "m d"]:
    """Return a weight as the matrix that acts on features, those of a convolution being patches.

    Args:
        weight: (m, d), or (m, channels, length), or (m, channels, height, width).

    Returns:
        (m, d), a view.
    """
    return weight.flatten(1)


def inner_map(like: Affine, matrix: Float[Tensor, "k d"], bias: Float[Tensor, " k"] | None) -> Affine:
    """Return a map that reads the features of another, in its dtype and on its device.

    Of a convolution it has kernel, stride, padding and dilation, so that borders stay as they are.

    Source: theory 3.

    Args:
        like: the other map.
        matrix: its weights.
        bias: its bias; none when None.

    Returns:
        A new map of the same kind.
    """
    settings: dict[str, Any] = {"bias": bias is not None, "device": "meta"}
    if isinstance(like, nn.Linear):
        return _filled(nn.Linear(matrix.shape[1], len(matrix), **settings), like, matrix, bias)
    kind = nn.Conv1d if isinstance(like, nn.Conv1d) else nn.Conv2d
    geometry = {key: getattr(like, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    return _filled(kind(like.in_channels, len(matrix), **geometry, **settings), like, matrix, bias)


def pointwise_map(like: Affine, matrix: Float[Tensor, "m k"], bias: Float[Tensor, " m"] | None) -> Affine:
    """Return a map that reads the outputs of :func:`inner_map`: a Linear, or a convolution of one place.

    Args:
        like: the map whose dtype and device it gets.
        matrix: its weights.
        bias: its bias; none when None.

    Returns:
        A new map of the same kind.
    """
    settings: dict[str, Any] = {"bias": bias is not None, "device": "meta"}
    if isinstance(like, nn.Linear):
        return _filled(nn.Linear(matrix.shape[1], len(matrix), **settings), like, matrix, bias)
    kind = nn.Conv1d if isinstance(like, nn.Conv1d) else nn.Conv2d
    return _filled(kind(matrix.shape[1], len(matrix), 1, **settings), like, matrix, bias)


def _filled(made: Affine, like: Affine, matrix: Tensor, bias: Tensor | None) -> Affine:
    """Give a map on the meta device its weights."""
    where = like.weight.device, like.weight.dtype
    made.weight = nn.Parameter(matrix.to(*where).reshape(made.weight.shape).contiguous())
    if bias is not None:
        made.bias = nn.Parameter(bias.to(*where))
    return made
