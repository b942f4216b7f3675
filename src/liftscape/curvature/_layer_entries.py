"""Which entries of the parameter vector belong to which layer."""

from collections.abc import Mapping

import torch
from torch import Tensor

from liftscape.outcomes import LiftscapeError

__all__ = ["Index", "check_layers", "layers_of", "names_by_layer"]

Index = slice | Tensor

_PARAMETRISED = ".parametrizations."


def layers_of(params: Mapping[str, Tensor]) -> dict[str, Index]:
    """Group the entries of the parameter vector by the module that owns them.

    ``encoder.fc1.weight`` and ``encoder.fc1.bias`` make the layer ``encoder.fc1``; a parameter of the root module is a
    layer of its own name, and a parametrised one belongs to the module that it parametrises. Every entry is in exactly
    one layer.

    Source: none; the parameter vector's order is that of ``risk.parameters``.

    Args:
        params: θ by name, in the vector's order, such as ``risk.parameters``.

    Returns:
        For each layer, in order of first appearance, a slice, or a tensor of indices where it is not contiguous.

    Example:
        >>> layers_of(dict(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)).named_parameters()))
        {'0': slice(0, 9, None), '1': slice(9, 13, None)}
    """
    runs: dict[str, list[tuple[int, int]]] = {}
    start = 0
    for name, tensor in params.items():
        end = start + tensor.numel()
        own = runs.setdefault(_owner(name), [])
        if own and own[-1][1] == start:
            own[-1] = (own[-1][0], end)
        else:
            own.append((start, end))
        start = end
    return {name: _index(own) for name, own in runs.items()}


def names_by_layer(params: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Group the names of parameters as :func:`layers_of` groups their entries.

    A tied parameter counts where it has its first name, so that no operator of two layers holds it twice.

    Args:
        params: θ by name, in the vector's order.

    Returns:
        For each layer the names of its parameters.
    """
    names: dict[str, list[str]] = {}
    for name in params:
        names.setdefault(_owner(name), []).append(name)
    return names


def check_layers(layers: Mapping[str, Index], size: int) -> None:
    """Raise unless every layer is a non-empty set of entries of a vector (M,).

    Args:
        layers: slices or tensors of indices by name.
        size: M.

    Raises:
        LiftscapeError: if a layer is empty or reaches beyond M.
    """
    for name, index in layers.items():
        if isinstance(index, slice):
            fits = 0 <= (index.start or 0) < (size if index.stop is None else index.stop) <= size
        else:
            fits = index.numel() > 0 and int(index.min()) >= 0 and int(index.max()) < size
        if not fits:
            raise LiftscapeError(
                f"layer {name} must hold entries of a vector ({size},), but {index} was given; use layers_of on the "
                "parameters that the operator is taken in."
            )


def _owner(name: str) -> str:
    """Name the module that holds a parameter, or the parameter itself where that is the root."""
    if _PARAMETRISED in f".{name}":
        return f".{name}".partition(_PARAMETRISED)[0][1:] or name.split(".")[1]
    return name.rpartition(".")[0] or name


def _index(runs: list[tuple[int, int]]) -> Index:
    """Return one run as a slice, several as indices."""
    return slice(*runs[0]) if len(runs) == 1 else torch.cat([torch.arange(*run) for run in runs])
