"""What the nodes of a graph hold, as plain values: torch's functions by name, and their arguments."""

import math
import operator
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import get_overridable_functions, resolve_name

from liftscape.outcomes import EmbeddingError, LoadError

__all__ = ["argument", "as_plain", "function_of", "methods", "name_of", "spelt"]

_OPERATORS = ("add", "iadd", "sub", "isub", "mul", "imul", "truediv", "matmul", "neg", "pow", "floordiv", "getitem")
# What a tensor tells about itself; other attributes could lead from a file to code.
_ATTRIBUTES = ("T", "device", "dtype", "mT", "ndim", "shape")
# What torch.export makes of x.shape[0]: numbers of a tensor, which other operations on the list must return themselves.
_SIZES = ("aten.sym_size.int", "aten.sym_numel.default")
_KINDS = {"dtype": torch.dtype, "memory_format": torch.memory_format, "layout": torch.layout}


def name_of(function: Any, args: Sequence[Any], where: str) -> str:
    """Return the name of a function of torch.

    Args:
        function: that a graph calls.
        args: with these.
        where: the graph is, for the refusal.

    Returns:
        The name, from which :func:`function_of` finds it.

    Raises:
        EmbeddingError: if it is none of torch's.
    """
    own = getattr(function, "__name__", str(function))
    if isinstance(function, torch._ops.OpOverload):
        name = str(function)
    elif function is getattr:
        name = "getattr"
    else:
        name = f"operator.{own}" if getattr(operator, own, None) is function else _functions()[1].get(function, "")
    try:
        function_of(name, args)
    except LoadError:
        raise EmbeddingError(
            f"{_called(where)} calls {own} in its forward, which a recipe cannot hold; save its state_dict beside the "
            "code that makes it."
        ) from None
    return name


def function_of(name: str, args: Sequence[Any]) -> Any:
    """Return the function of a name.

    Args:
        name: from :func:`name_of`.
        args: with which it is called.

    Returns:
        The function.

    Raises:
        LoadError: if it is none that a file may call.
    """
    space, _, rest = name.partition(".")
    if space == "operator" and rest in _OPERATORS:
        return getattr(operator, rest)
    if name == "getattr" and len(args) == 2 and args[1] in _ATTRIBUTES:
        return getattr
    if space == "aten":
        packet, _, overload = rest.partition(".")
        found = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
        if isinstance(found, torch._ops.OpOverload) and (name in _SIZES or _is_of_tensors(found)):
            return found
    elif name in _functions()[0]:
        return _functions()[0][name]
    raise LoadError(f"the recipe calls call_function {name!r}, which no recipe of this version can hold.")


def _is_of_tensors(operation: Any) -> bool:
    """Tell operations from tensors to tensors: others read and write files."""
    schema = operation._schema
    return all(any("Tensor" in str(each.type) for each in own) for own in (schema.arguments, schema.returns))


@cache
def _functions() -> tuple[dict[str, Any], dict[Any, str]]:
    """Return torch's functions of tensors by their names, and the names by the functions."""
    listed = {str(resolve_name(each)): each for own in get_overridable_functions().values() for each in own}
    named = {name: each for name, each in listed.items() if not name.startswith("torch.Tensor.")}
    return named, {each: name for name, each in named.items()}


@cache
def methods() -> frozenset[str]:
    """Return the names of the methods of tensors that a graph may call.

    Returns:
        The names.
    """
    return frozenset(each.__name__ for each in get_overridable_functions()[Tensor] if not each.__name__.startswith("_"))


def as_plain(value: Any, where: str) -> Any:
    """Return an argument of a node as plain values.

    Args:
        value: of the node.
        where: the graph is, for the refusal.

    Returns:
        What JSON can hold.

    Raises:
        EmbeddingError: if there is no such.
    """
    if isinstance(value, fx.Node):
        return {"call": value.name}
    if isinstance(value, slice):
        return {"slice": [as_plain(each, where) for each in (value.start, value.stop, value.step)]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": [[key, as_plain(entry, where)] for key, entry in value.items()]}
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        entries = [as_plain(entry, where) for entry in value]
        return {"tuple": entries} if isinstance(value, tuple) else entries
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or type(value) in {bool, int, float, str}:
        return value
    if value is Ellipsis:
        return {"ellipsis": None}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    for kind, cls in _KINDS.items():
        if isinstance(value, cls):
            return {kind: spelt(value)}
    kind = type(value).__name__
    raise EmbeddingError(f"{_called(where)} passes a {kind} in its forward, which a recipe cannot hold.")


def argument(entry: Any, made: Mapping[str, fx.Node]) -> Any:
    """Return the argument of plain values.

    Args:
        entry: from :func:`as_plain`.
        made: nodes by name.

    Returns:
        The argument.
    """
    if isinstance(entry, list):
        return [argument(each, made) for each in entry]
    if not isinstance(entry, dict):
        return entry
    ((kind, given),) = entry.items()
    if kind in {"tuple", "slice"}:
        parts = [argument(each, made) for each in given]
        return slice(*parts) if kind == "slice" else tuple(parts)
    if kind == "dict":
        return {str(key): argument(each, made) for key, each in given}
    if kind in _KINDS and isinstance(getattr(torch, given, None), _KINDS[kind]):
        return getattr(torch, given)
    simple = {"call": made.__getitem__, "float": float, "device": torch.device, "ellipsis": lambda _: Ellipsis}
    return simple[kind](given)


def spelt(value: Any) -> str:
    """Return the name that a constant has in torch.

    Args:
        value: such as a dtype.

    Returns:
        The name.
    """
    return str(value).removeprefix("torch.")


def _called(where: str) -> str:
    """Name a block in a sentence, which has no name where it is all of the network."""
    return f"'{where}'" if where else "the network"
