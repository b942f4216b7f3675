"""The forward pass of a block as a list of calls, written by plain values and read without running any code."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from liftscape.functional import copy_model
from liftscape.outcomes import EmbeddingError, LoadError
from liftscape.storage._graph_values import argument, as_plain, function_of, methods, name_of, spelt

__all__ = ["build_block", "called_modules", "describe_block"]

Describe = Callable[[nn.Module, str], dict[str, Any]]

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
    return {"calls": nodes, "new": new, "own": _own_tensors(block, name)}


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
        for target, kind, shape, dtype in description["own"]:
            _give(root, target, kind, shape, dtype)
        for name, op, target, args, kwargs in description["calls"]:
            positional, named = argument(args, made), argument(kwargs, made)
            _check(name, op, target, named)
            if op == "call_module":
                root.get_submodule(target)
            function = function_of(target, positional) if op == "call_function" else target
            made[name] = graph.create_node(op, function, positional, named, name)
        graph.lint()
        return fx.GraphModule(root, graph)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, SyntaxError) as error:
        raise LoadError(
            f"the recipe describes a graph that does not fit {type(base).__name__}: {error}; give the network that the "
            "recipe was made from."
        ) from error


def _own_tensors(block: fx.GraphModule, name: str) -> list[list[Any]]:
    """Describe the tensors that a graph reads itself."""
    weights, parameters = block.state_dict(), dict(block.named_parameters(remove_duplicate=False))
    own = []
    for target in dict.fromkeys(str(node.target) for node in block.graph.nodes if node.op == "get_attr"):
        if target not in weights:
            raise EmbeddingError(f"'{name}' reads '{target}' in its forward, which is none of its weights.")
        tensor, kind = weights[target], "parameter" if target in parameters else "buffer"
        own.append([target, kind, list(tensor.shape), spelt(tensor.dtype)])
    return own


def _give(root: nn.Module, target: str, kind: str, shape: list[int], dtype: str) -> None:
    """Give a block a tensor that it reads and that its base lacks."""
    parent, _, child = target.rpartition(".")
    module = root.get_submodule(parent)
    if list(getattr(getattr(module, child, None), "shape", [-1])) == shape:
        return
    if child in module._parameters or child in module._buffers:
        delattr(module, child)
    device = next((tensor.device for tensor in root.parameters()), torch.device("cpu"))
    tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=device)
    if kind == "parameter":
        module.register_parameter(child, nn.Parameter(tensor))
    else:
        module.register_buffer(child, tensor)


def _check(name: str, op: str, target: str, named: Mapping[str, Any]) -> None:
    """Raise for a call that is not on the lists, or for a name that would not stay one in the graph's code."""
    known = {
        "placeholder": _WORD.fullmatch(target) is not None,
        "output": target == "output",
        "get_attr": _PATH.fullmatch(target) is not None,
        "call_module": _PATH.fullmatch(target) is not None,
        "call_method": target in methods(),
        "call_function": True,
    }
    if not all(_WORD.fullmatch(key) for key in named):
        raise LoadError(f"the recipe calls {target!r} with {list(named)}, which are no names of arguments.")
    if not (_WORD.fullmatch(name) and known.get(op)):
        raise LoadError(f"the recipe calls {op} {target!r}, which no recipe of this version can hold.")


def _write(node: fx.Node, block: str) -> list[Any]:
    """Write one call."""
    target = node.target
    if node.op == "call_function" or (node.op == "call_method" and target not in methods()):
        target = name_of(target, node.args, block)
    return [node.name, node.op, target, as_plain(node.args, block), as_plain(dict(node.kwargs), block)]
