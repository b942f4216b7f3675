"""What models return: a tensor, or tensors in dicts, tuples and dataclasses, as Transformers' models do."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from liftscape.outcomes import ModelError

__all__ = ["main_tensor", "map_tensors", "named_tensors", "output_tensor"]

_LOGITS = "logits"


def named_tensors(output: Any) -> dict[str, Tensor]:
    """Return the tensors of a nested output by the path of their keys, the output itself under "".

    Args:
        output: a tensor, or any nesting of mappings, tuples, lists and dataclasses.

    Returns:
        The tensors in their order.

    Example:
        >>> list(named_tensors({"logits": torch.zeros(2), "states": (torch.zeros(3), None)}))
        ['logits', 'states.0']
    """
    return dict(_walk("", output))


def _walk(path: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors below one entry."""
    if isinstance(value, Tensor):
        yield path, value
    for key, entry in _entries(value):
        yield from _walk(f"{path}.{key}" if path else str(key), entry)


def _entries(value: Any) -> list[tuple[Any, Any]]:
    """Return the entries of a container with their keys, none for anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (tuple, list)):
        return list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return []


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return the same nesting with a function of each tensor in its place.

    Args:
        function: of a tensor.
        value: as for :func:`named_tensors`.

    Returns:
        A new nesting; what holds no tensor is kept as it is.
    """
    if isinstance(value, Tensor):
        return function(value)
    if not named_tensors(value):
        return value
    entries = {key: map_tensors(function, entry) for key, entry in _entries(value)}
    if isinstance(value, Mapping):
        if type(value) is dict or not all(isinstance(key, str) for key in entries):
            return entries
        # Mappings of Transformers are built from their entries by name.
        return type(value)(**{key: entry for key, entry in entries.items() if entry is not None})
    if isinstance(value, tuple):
        return _tuple_like(value, list(entries.values()))
    # A copy, since the fields of a dataclass need not be arguments of its constructor.
    mapped = copy.copy(value)
    if isinstance(value, list):
        mapped[:] = entries.values()
        return mapped
    for key, entry in entries.items():
        object.__setattr__(mapped, key, entry)
    return mapped


def _tuple_like(value: tuple[Any, ...], entries: list[Any]) -> tuple[Any, ...]:
    """Return a tuple of the same kind with other entries, whatever arguments its kind is made from."""
    try:
        mapped = tuple.__new__(type(value), entries)
    except TypeError:
        # Torch's own, such as what torch.max returns, are made by their kind alone.
        return type(value)(entries)
    getattr(mapped, "__dict__", {}).update(getattr(value, "__dict__", {}))
    return mapped


def main_tensor(output: Any) -> Tensor | None:
    """Return the tensor output, or the entry ``logits``, or the only tensor; None where there is no such.

    Args:
        output: what the model returned.

    Returns:
        The tensor, with its graph.
    """
    tensors = named_tensors(output)
    return tensors.get(_LOGITS, next(iter(tensors.values())) if len(tensors) == 1 else None)


def loss_tensor(output: Any, loss: str) -> Tensor:
    """Return the main tensor, or raise with the entries that there are."""
    found = main_tensor(output)
    if found is not None:
        return found
    entries = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in named_tensors(output).items())
    raise ModelError(
        f"{loss} needs one tensor of outputs or an entry '{_LOGITS}', but the model returned {type(output).__name__} "
        f"with the entries {entries or 'of no tensor'}; give a loss of your own that takes what the model returns."
    )


def output_tensor(output: Any) -> Tensor:
    """Return the main tensor of an output, or all its floating-point tensors as one vector where there is none.

    Args:
        output: what the model returned.

    Returns:
        The tensor by which two networks are compared.

    Raises:
        ModelError: if there is no tensor.

    Example:
        >>> output_tensor({"logits": torch.zeros(2, 3), "states": torch.zeros(5)}).shape
        torch.Size([2, 3])
    """
    found = main_tensor(output)
    if found is not None:
        return found
    parts = [tensor.reshape(-1) for tensor in named_tensors(output).values() if tensor.is_floating_point()]
    return torch.cat(parts) if parts else loss_tensor(output, "a comparison of outputs")
