"""The forward pass of a block as a list of calls, written by plain values and read without running any code."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from liftscape.outcomes import EmbeddingError, LoadError
from liftscape.risk import copy_model

__all__ = ["build_block", "called_modules", "describe_block"]

Describe = Callable[[nn.Module, str], dict[str, Any]]

# Only these are ever called by a graph that was read.
_NAMES: dict[Any, str] = {
    operator: "add iadd sub mul truediv neg getitem",
    torch: "add sub mul div cat flatten mean relu tanh sigmoid transpose clamp",
    functional: "relu relu6 leaky_relu elu selu gelu silu hardtanh hardswish dropout max_pool2d avg_pool2d pad "
    "adaptive_avg_pool2d layer_norm normalize",
}
_FUNCTIONS: dict[str, Any] = {
    f"{room.__name__}.{name}": getattr(room, name) for room, names in _NAMES.items() for name in names.split()
}
_CALLED = "add add_ sub mul div mean sum view reshape flatten unflatten transpose permute contiguous size squeeze"
_METHODS = frozenset(f"{_CALLED} unsqueeze relu relu_ tanh sigmoid chunk split".split())
# A graph becomes Python code, into which these are written as they are.
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH = re.compile(r"[A-Za-z0-9_ ]+(\.[A-Za-z0-9_ ]+)*")


def describe_block(block: fx.GraphModule, name: str, kept: Mapping[str, bool], describe: Describe) -> dict[str, Any]:
    """Describe a block whose forward is a graph by its calls and by those of its modules that are new.

    Args:
        block: the graph.
        name: of it, for refusals.
        kept: for each module that is called whether the block it was made of has it as it is.
        describe: describes a new module.

    Returns:
        Plain values.

    Raises:
        EmbeddingError: if the graph calls what no recipe can hold.
    """
    nodes = [_write(node, name) for node in block.graph.nodes]
    new = [[target, describe(block.get_submodule(target), f"{name}.{target}")] for target in kept if not kept[target]]
    return {"calls": nodes, "new": new}


def called_modules(block: fx.GraphModule) -> Iterator[str]:
    """Yield the names of the modules that a graph calls, each once.

    Args:
        block: the graph.

    Yields:
        Names within it.
    """
    yield from dict.fromkeys(str(node.target) for node in block.graph.nodes if node.op == "call_module")


def build_block(base: nn.Module, description: Any, build: Callable[[Any], nn.Module]) -> fx.GraphModule:
    """Build a described graph on a copy of its base.

    Args:
        base: the block that the graph was made of; it is left as it was.
        description: from :func:`describe_block`.
        build: builds a described module.

    Returns:
        The graph module; its new modules hold undefined weights.

    Raises:
        LoadError: if the description holds a call that no recipe of this version can hold, or does not fit the base.
    """
    root, graph, made = copy_model(base), fx.Graph(), dict[str, fx.Node]()
    try:
        for target, module in description["new"]:
            parent, _, child = str(target).rpartition(".")
            root.get_submodule(parent).add_module(child, build(module))
        for name, op, target, args, kwargs in description["calls"]:
            _check(name, op, target)
            if op == "call_module":
                root.get_submodule(target)
            function = _FUNCTIONS[target] if op == "call_function" else target
            made[name] = graph.create_node(op, function, _read(args, made), _read(kwargs, made), name)
        graph.lint()
        return fx.GraphModule(root, graph)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, SyntaxError) as error:
        raise LoadError(
            f"the recipe describes a graph that does not fit {type(base).__name__}: {error}; give the network that the "
            "recipe was made from."
        ) from error


def _check(name: str, op: str, target: str) -> None:
    """Raise for a call that is not on the lists, or for a name that would not stay one in the graph's code."""
    known = {
        "placeholder": _WORD.fullmatch(target) is not None,
        "output": target == "output",
        "get_attr": _PATH.fullmatch(target) is not None,
        "call_module": _PATH.fullmatch(target) is not None,
        "call_method": target in _METHODS,
        "call_function": target in _FUNCTIONS,
    }
    if not (_WORD.fullmatch(name) and known.get(op)):
        raise LoadError(f"the recipe calls {op} {target!r}, which no recipe of this version can hold.")


def _write(node: fx.Node, block: str) -> list[Any]:
    """Write one call."""
    target = node.target
    if node.op == "call_function":
        target = next((name for name, known in _FUNCTIONS.items() if known is node.target), None)
    if target is None or (node.op == "call_method" and target not in _METHODS):
        raise EmbeddingError(
            f"'{block}' calls {getattr(node.target, '__name__', node.target)} in its forward, which a recipe cannot "
            "hold; save its state_dict beside the code that makes it."
        )
    return [node.name, node.op, target, _plain(node.args, block), _plain(dict(node.kwargs), block)]


def _plain(value: Any, block: str) -> Any:
    """Write arguments: calls by their names, tuples and slices told from lists."""
    if isinstance(value, fx.Node):
        return {"call": value.name}
    if isinstance(value, tuple):
        return {"tuple": [_plain(each, block) for each in value]}
    if isinstance(value, slice):
        return {"slice": [_plain(each, block) for each in (value.start, value.stop, value.step)]}
    if isinstance(value, list):
        return [_plain(each, block) for each in value]
    if isinstance(value, dict):
        return {"dict": [[str(key), _plain(each, block)] for key, each in value.items()]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise EmbeddingError(f"'{block}' passes a {type(value).__name__} in its forward, which a recipe cannot hold.")


def _read(value: Any, made: Mapping[str, fx.Node]) -> Any:
    """Read arguments."""
    if isinstance(value, list):
        return [_read(each, made) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "call":
        return made[content]
    if kind == "dict":
        if not all(_WORD.fullmatch(key) for key, _ in content):
            raise ValueError(f"{[key for key, _ in content]} are no names of arguments")
        return {key: _read(each, made) for key, each in content}
    entries = [_read(each, made) for each in content]
    return slice(*entries) if kind == "slice" else tuple(entries)
