"""The affine maps that modules hold, Linear maps and convolutions, and new ones of their kind."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["AFFINE", "Affine", "groups_of", "pointwise_map", "remade"]

AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d)
Affine = nn.Linear | nn.Conv1d | nn.Conv2d

_GEOMETRY = ("stride", "padding", "dilation", "groups", "padding_mode")


def remade(like: Affine, weight: Float[Tensor, "m ..."], bias: Float[Tensor, " m"] | None, **changes: Any) -> Affine:
    """Return a map with the geometry, dtype and device of another, as trainable as it, with other weights.

    Args:
        like: the other map.
        weight: (m, d), or (m, channels of a group, …) with the kernel of a convolution.
        bias: (m,); none when None.
        changes: stride, padding, dilation, groups or padding_mode of a convolution that are to be others.

    Returns:
        A new map of the same kind.
    """
    settings: dict[str, Any] = {"bias": bias is not None, "device": "meta"}
    if isinstance(like, nn.Linear):
        return _filled(nn.Linear(weight.shape[1], len(weight), **settings), like, weight, bias)
    kind = nn.Conv1d if isinstance(like, nn.Conv1d) else nn.Conv2d
    geometry: dict[str, Any] = (
        {key: getattr(like, key) for key in _GEOMETRY} | changes | {"kernel_size": tuple(weight.shape[2:])}
    )
    channels = weight.shape[1] * geometry["groups"], len(weight)
    return _filled(kind(*channels, **geometry, **settings), like, weight, bias)


def groups_of(map_: Affine) -> int:
    """Return in how many groups a map takes its features, each for outputs of its own.

    Args:
        map_: a Linear, which has one, or a convolution.

    Returns:
        G.
    """
    return 1 if isinstance(map_, nn.Linear) else map_.groups


def pointwise_map(like: Affine, matrix: Float[Tensor, "m k"], bias: Float[Tensor, " m"] | None) -> Affine:
    """Return a map that reads what another writes, place by place: a Linear, or a convolution of one place.

    Args:
        like: the other map, whose dtype, device and groups it gets.
        matrix: (m, k), k the features of one group.
        bias: (m,); none when None.

    Returns:
        A new map of the same kind.
    """
    settings: dict[str, Any] = {"bias": bias is not None, "device": "meta"}
    if isinstance(like, nn.Linear):
        return _filled(nn.Linear(matrix.shape[1], len(matrix), **settings), like, matrix, bias)
    kind = nn.Conv1d if isinstance(like, nn.Conv1d) else nn.Conv2d
    made = kind(matrix.shape[1] * like.groups, len(matrix), 1, groups=like.groups, **settings)
    return _filled(made, like, matrix, bias)


def _filled(made: Affine, like: Affine, weight: Tensor, bias: Tensor | None) -> Affine:
    """Give a map on the meta device its weights, in the shape that it has."""
    where = like.weight.device, like.weight.dtype
    # Rows in order, as in a file: a product rounds otherwise where they are not.
    own = weight.reshape(made.weight.shape).to(*where, copy=True, memory_format=torch.contiguous_format)
    made.weight = nn.Parameter(own)
    if bias is not None:
        made.bias = nn.Parameter(bias.to(*where, copy=True))
    return made.requires_grad_(like.weight.requires_grad)
