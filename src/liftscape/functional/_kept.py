"""The attributes of modules, in which a call may leave tensors with their graphs."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["kept_attributes", "own_attributes"]

# Parameters, buffers and modules, which functional_call looks after, hooks and the mode.
_TORCHS = frozenset(vars(nn.Module()))
# What a recurrent layer computes with, and by which it knows that its parameters are others: put back both or neither.
_RECURRENT = ("_flat_weights", "_flat_weight_refs")
# Reading a vocabulary of 100,000 words at each call would take longer than the call.
_SMALL = 100


@contextmanager
def kept_attributes(model: nn.Module) -> Generator[None]:
    """Put computed weights back, and a module as it was in which the call leaves a tensor with its graph.

    The graph would stay in memory, and a copy of the model would fail. What else a call changes is the model's own:
    constants that it caches, and counters, by which it is seen to be no function.

    Args:
        model: any module.

    Yields:
        Nothing.
    """
    before = [(module, own_attributes(module)) for module in model.modules()]
    contents: dict[int, tuple[Any, tuple[Any, ...]]] = {}
    for _, held in before:
        for value in held.values():
            _note(value, contents)
    try:
        yield
    finally:
        for module, held in before:
            now = own_attributes(module)
            changed = [name for name, value in now.items() if held.get(name) is not value]
            if any(_keeps_graph(now[name]) for name in changed):
                for name in now.keys() - held.keys():
                    del vars(module)[name]
                vars(module).update(held)
            computed = [name for name in changed if isinstance(held.get(name), Tensor)]
            recurrent = [name for name in _RECURRENT if name in held and isinstance(module, nn.RNNBase)]
            vars(module).update({name: held[name] for name in (*computed, *recurrent)})
        for value, content in contents.values():
            _refill(value, content)


def own_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that are not torch's.

    Args:
        module: any.

    Returns:
        A new dict of the values themselves.
    """
    held = vars(module)
    return {name: held[name] for name in held.keys() - _TORCHS}


def _note(value: Any, contents: dict[int, tuple[Any, tuple[Any, ...]]]) -> None:
    """Note what a list or dict holds, and those in it; large ones are left alone, since each call would read them."""
    if not isinstance(value, (list, dict)) or id(value) in contents or len(value) > _SMALL or len(contents) > _SMALL:
        return
    entries = tuple(dict.items(value)) if isinstance(value, dict) else tuple(list.__iter__(value))
    contents[id(value)] = (value, entries)
    for entry in entries:
        _note(entry[1] if isinstance(value, dict) else entry, contents)


def _refill(value: Any, content: tuple[Any, ...]) -> None:
    """Put a list or dict back in which a tensor with its graph came to stand."""
    if isinstance(value, dict):
        known = {id(entry) for _, entry in content}
        if any(id(entry) not in known and _keeps_graph(entry) for entry in dict.values(value)):
            dict.clear(value)
            dict.update(value, content)
    else:
        known = {id(entry) for entry in content}
        if any(id(entry) not in known and _keeps_graph(entry) for entry in list.__iter__(value)):
            list.__setitem__(value, slice(None), content)


def _keeps_graph(value: Any, depth: int = 4) -> bool:
    """Tell whether a tensor that is differentiated stands in a value."""
    if isinstance(value, Tensor):
        return value.requires_grad
    if isinstance(value, (list, tuple, dict, set)) and depth:
        entries = dict.values(value) if isinstance(value, dict) else value
        return any(_keeps_graph(entry, depth - 1) for entry in entries)
    return False
