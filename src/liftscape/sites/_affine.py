"""The affine maps that modules hold, Linear maps and convolutions, and new ones of their kind."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["AFFINE", "Affine", "pointwise_map", "remade"]

AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d)
Affine = nn.Linear | nn.Conv1d | nn.Conv2d

_GEOMETRY = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")


def remade(like: Affine, weight: Float[Tensor, "m ..."], bias: Float[Tensor, " m"] | None) -> Affine:
    """Return a map with the geometry of another, in its dtype and on its device, and with other weights.

    Args:
        like: the other map.
        weight: (m, d), or (m, channels of a group, …) with the kernel of a convolution.
        bias: (m,); none when None.

    Returns:
        A new map of the same kind.
    """
    settings: dict[str, Any] = {"bias": bias is not None, "device": "meta"}
    if isinstance(like, nn.Linear):
        return _filled(nn.Linear(weight.shape[1], len(weight), **settings), like, weight, bias)
    kind = nn.Conv1d if isinstance(like, nn.Conv1d) else nn.Conv2d
    geometry = {key: getattr(like, key) for key in _GEOMETRY}
    return _filled(kind(weight.shape[1] * like.groups, len(weight), **geometry, **settings), like, weight, bias)


def pointwise_map(like: Affine, matrix: Float[Tensor, "m k"], bias: Float[Tensor, " m"] | None) -> Affine:
    """Return a map that reads what another writes, place by place: a Linear, or a convolution of one place.

    Args:
        like: the other map, whose dtype and device it gets.
        matrix: (m, k).
        bias: (m,); none when None.

    Returns:
        A new map of the same kind.
    """
    settings: dict[str, Any] = {"bias": bias is not None, "device": "meta"}
    if isinstance(like, nn.Linear):
        return _filled(nn.Linear(matrix.shape[1], len(matrix), **settings), like, matrix, bias)
    kind = nn.Conv1d if isinstance(like, nn.Conv1d) else nn.Conv2d
    return _filled(kind(matrix.shape[1], len(matrix), 1, **settings), like, matrix, bias)


def _filled(made: Affine, like: Affine, weight: Tensor, bias: Tensor | None) -> Affine:
    """Give a map on the meta device its weights, in the shape that it has."""
    where = like.weight.device, like.weight.dtype
    made.weight = nn.Parameter(weight.to(*where).reshape(made.weight.shape).clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.to(*where).clone())
    return made
