"""What running a model moves beside its parameters and buffers: generators of random numbers, counters, attributes."""

import collections
import random
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from liftscape.functional._kept import own_attributes

__all__ = ["random_states", "untouched"]

# How far objects in objects are followed: a trainer that a module knows holds data loaders and loggers.
_DEPTH = 3
# Entries of larger containers are words or numbers; reading each of them would take longer than the call.
_SMALL = 10_000
_CONTAINERS = (list, dict, set, collections.deque)

Undo = Callable[[], None]


@contextmanager
def untouched(model: nn.Module) -> Generator[None]:
    """Leave a model and all generators of random numbers as they were, whatever is run while the context lasts.

    Put back are torch's, NumPy's and Python's global generators, those that a module holds, the modes, and attributes:
    numbers, containers with their entries, tensors and arrays with their values, and objects of the user's with theirs;
    also attributes of the modules' classes. Iterators and what a module keeps outside of itself are out of reach.

    Args:
        model: any module.

    Yields:
        Nothing.

    Example:
        >>> class Counting(nn.Linear):
        ...     calls = 0
        ...     def forward(self, x):
        ...         self.calls += 1
        ...         return super().forward(x)
        >>> model = Counting(1, 1)
        >>> with untouched(model):
        ...     _ = model(torch.rand(2, 1))
        >>> model.calls
        0
    """
    undo = [_generators(), *_undo_model(model)]
    try:
        yield
    finally:
        for each in undo:
            each()


def random_states() -> tuple[Any, ...]:
    """Return the states of the generators that all share: torch's, Python's and NumPy's.

    Returns:
        Values that are equal where the states are.
    """
    own = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])]
    _, words, place, *_ = np.random.get_state()  # ruff: ignore[numpy-legacy-random]
    return random.getstate(), np.asarray(words).tobytes(), place, *(state.numpy().tobytes() for state in own)


def _generators() -> Undo:
    """Note the states of the global generators."""
    cpu, python = torch.get_rng_state(), random.getstate()
    numpy = np.random.get_state()  # ruff: ignore[numpy-legacy-random]
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None

    def undo() -> None:
        torch.set_rng_state(cpu)
        random.setstate(python)
        np.random.set_state(numpy)  # ruff: ignore[numpy-legacy-random]
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)

    return undo


def _undo_model(model: nn.Module) -> Iterator[Undo]:
    """Note all modules, their classes, and what they hold."""
    registered: set[int] = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    # The context keeps what it has noted, so that no identity is another's before it ends.
    seen: dict[int, Any] = {}
    for module in model.modules():
        seen[id(module)] = module
    for module in model.modules():
        yield from _undo_module(module, registered, seen)
    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    for kind in kinds:
        if issubclass(kind, nn.Module) and not kind.__module__.startswith("torch."):
            data = {name: value for name, value in vars(kind).items() if _is_data(value)}
            yield _undo_class(kind, data)
            for value in data.values():
                yield from _undo_value(value, registered, seen, 1)


def _undo_module(module: nn.Module, registered: set[int], seen: dict[int, Any]) -> Iterator[Undo]:
    """Note the attributes and the mode of a module."""
    held, training = own_attributes(module), module.training

    def undo() -> None:
        module.training = training
        for name in own_attributes(module).keys() - held.keys():
            del vars(module)[name]
        vars(module).update(held)

    yield undo
    for value in held.values():
        yield from _undo_value(value, registered, seen, 1)


def _undo_value(value: Any, registered: set[int], seen: dict[int, Any], depth: int) -> Iterator[Undo]:
    """Note what a value holds, and what that holds."""
    if id(value) in seen or id(value) in registered or depth > _DEPTH:
        return
    entries: Any = ()
    if isinstance(value, (Tensor, np.ndarray)):
        yield _undo_numbers(value)
    elif isinstance(value, _CONTAINERS):
        yield _undo_container(value)
        entries = value.values() if isinstance(value, dict) else value
    elif isinstance(value, tuple):
        entries = value
    elif isinstance(value, nn.Module):
        # One that stands in a list or behind a lambda: nobody else looks after its buffers.
        seen[id(value)] = value
        for buffer in value._buffers.values():
            if buffer is not None:
                yield _undo_numbers(buffer)
        yield from _undo_module(value, registered, seen)
        entries = value._modules.values()
    elif (state := _state_of(value)) is not None:
        yield state
    elif _is_object(value):
        held = vars(value)
        yield _undo_object(value, dict(held))
        entries = tuple(held.values())
    else:
        return
    seen[id(value)] = value
    if len(entries) <= _SMALL:
        for entry in tuple(entries):
            yield from _undo_value(entry, registered, seen, depth + 1)


def _undo_numbers(value: Any) -> Undo:
    """Note the values of a tensor or array."""
    if isinstance(value, np.ndarray):
        kept = value.copy()

        def undo_array() -> None:
            if value.flags.writeable:
                value[...] = kept

        return undo_array
    with torch.no_grad():
        copied = value.detach().clone()

    def undo_tensor() -> None:
        # Nothing is written where nothing has changed: an expanded tensor cannot be.
        now = value.detach()
        same = now.shape == copied.shape and bool(((now == copied) | ((now != now) & (copied != copied))).all())
        if not same:
            value.data = copied if now.shape != copied.shape else value.data.copy_(copied)

    return undo_tensor


def _undo_container(value: Any) -> Undo:
    """Note the entries of a list, dict, set or deque."""
    kept = dict(value) if isinstance(value, dict) else list(value)

    def undo() -> None:
        now = dict(value) if isinstance(value, dict) else list(value)
        if isinstance(value, dict):
            same = len(now) == len(kept) and all(name in now and now[name] is kept[name] for name in kept)
        else:
            same = len(now) == len(kept) and all(a is b for a, b in zip(now, kept, strict=True))
        if not same:
            value.clear()
            (value.extend if isinstance(value, (list, collections.deque)) else value.update)(kept)

    return undo


def _undo_object(value: Any, held: dict[str, Any]) -> Undo:
    """Note the attributes of an object."""

    def undo() -> None:
        now = vars(value)
        for name in now.keys() - held.keys():
            del now[name]
        now.update(held)

    return undo


def _undo_class(kind: type, data: dict[str, Any]) -> Undo:
    """Note the data that a class holds."""

    def undo() -> None:
        for name, value in data.items():
            if vars(kind).get(name) is not value:
                setattr(kind, name, value)

    return undo


def _state_of(value: Any) -> Undo | None:
    """Note the state of a generator of random numbers."""
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: value.set_state(state) and None
    if isinstance(value, np.random.Generator):
        inner, place = value.bit_generator.state, value.bit_generator
        return lambda: setattr(place, "state", inner)
    if isinstance(value, np.random.RandomState):
        legacy = value.get_state()
        return lambda: value.set_state(legacy)
    if isinstance(value, random.Random):
        python = value.getstate()
        return lambda: value.setstate(python)
    return None


def _is_object(value: Any) -> bool:
    """Tell an object that has attributes, and is no class, function or module of Python's."""
    other = isinstance(value, (type, ModuleType)) or hasattr(value, "__code__")
    return not other and isinstance(getattr(value, "__dict__", None), dict)


def _is_data(value: Any) -> bool:
    """Tell what a class holds for its instances from its methods and descriptors."""
    return isinstance(value, (bool, int, float, complex, Tensor, np.ndarray, *_CONTAINERS))
