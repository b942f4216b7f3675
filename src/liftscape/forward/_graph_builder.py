"""A plain graph of modules and operations from the nodes that torch.export found."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves, tree_unflatten

from liftscape.forward._labels import CallLabels
from liftscape.outcomes import ModelError

__all__ = ["GraphBuilder", "MakeModule"]

# A call's name, its function or module and its further arguments, and the module in its place; None where it stays.
MakeModule = Callable[[str, Any, tuple[Any, ...], dict[str, Any]], nn.Module | None]


@final
class GraphBuilder:
    """Rewrites an exported program's nodes into a plain graph, call by call.

    Args:
        model: the network that was exported; its modules go into the graph.
        program: what torch.export made of it.
        make_module: called with a call's name, its function and its further arguments.
    """

    def __init__(self, model: nn.Module, program: ExportedProgram, make_module: MakeModule) -> None:
        self._model, self._program, self._make = model, program, make_module
        self._source = program.module()
        self._labels = CallLabels(model)
        self._graph = fx.Graph()
        self._new: dict[fx.Node, Any] = {}
        self._root: dict[str, Any] = {}
        self._whole = self._calls_of_modules()

    def build(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> fx.GraphModule:
        """Return the network on a plain graph, in the mode of the given one.

        Args:
            args: positional arguments that it was exported with.
            kwargs: keyword arguments.

        Returns:
            The module.
        """
        nodes = list(self._source.graph.nodes)
        self._inputs([node for node in nodes if node.op == "placeholder"], args, kwargs)
        for node in nodes:
            if node.op == "output":
                flat = [self._mapped(each) for each in tree_leaves(node.args[0])]
                spec = self._program.call_spec.out_spec
                assert spec is not None
                self._graph.output(_plain(tree_unflatten(flat, spec), self._graph))
            elif node.op == "call_function" and not self._is_done_elsewhere(node):
                self._new[node] = self._call(node)
        kept = {id(module) for module in self._model.modules()}
        built = fx.GraphModule(self._root, self._graph, type(self._model).__name__)
        built.graph.eliminate_dead_code()
        built.recompile()
        for module in built.modules():
            if id(module) not in kept:
                module.training = self._model.training
        return built

    def _calls_of_modules(self) -> dict[fx.Node, tuple[str, fx.Node] | None]:
        """Return for the node that each module's call hands on its name and what it reads, for its other nodes None."""
        groups: dict[tuple[str, ...], list[fx.Node]] = {}
        for node in self._source.graph.nodes:
            path = _path(node)
            if node.op == "call_function" and path and _is_whole(self._model.get_submodule(path)):
                # The keys tell the calls of one module from each other.
                groups.setdefault((path, *node.meta["nn_module_stack"]), []).append(node)
        found: dict[fx.Node, tuple[str, fx.Node] | None] = {}
        for (path, *_), group in groups.items():
            outside = dict.fromkeys(each for node in group for each in node.all_input_nodes if each not in group)
            reads = [each for each in outside if each.op != "get_attr"]
            used = lambda node, group=group: any(user not in group and not _writes(user) for user in node.users)
            made = [node for node in group if used(node)]
            if len(reads) == len(made) == 1:
                found |= dict.fromkeys(group) | {made[0]: (path, reads[0])}
        return found

    def _is_done_elsewhere(self, node: fx.Node) -> bool:
        """Tell the inner nodes of a module's call, and what writes its buffers."""
        if node in self._whole:
            return self._whole[node] is None
        return _writes(node) and _path_of_buffer(node) in {call[0] for call in self._whole.values() if call}

    def _call(self, node: fx.Node) -> fx.Node:
        """Return the new node for a call."""
        call = self._whole.get(node)
        if call is not None:
            name, reads = call
            module, label = self._model.get_submodule(name), self._labels.next_module(name)
            several = [other[0] for other in self._whole.values() if other].count(name) > 1
            # One module with several calls becomes several, so that each may leave alone.
            made = self._make(label, module, (), {}) if several else None
            return self._call_module(*((name, module) if made is None else (label, made)), reads)
        overload = node.target
        if isinstance(overload, torch._ops.OpOverload) and node.args and isinstance(node.args[0], fx.Node):
            stem = overload._schema.name.rpartition("::")[2]
            label = self._labels.next(_path(node), stem)
            made = self._make(label, overload.overloadpacket, node.args[1:], dict(node.kwargs))
            if made is not None:
                return self._call_module(label, made, node.args[0])
        return self._graph.node_copy(node, self._mapped)

    def _call_module(self, name: str, module: nn.Module, reads: fx.Node) -> fx.Node:
        """Add a call of a module."""
        self._root[name] = module
        return self._graph.call_module(name, (self._mapped(reads),))

    def _mapped(self, node: Any) -> Any:
        """Return the new node for an old one; parameters and constants are read where they are first needed."""
        if not isinstance(node, fx.Node):
            return node
        if node not in self._new and node.op == "get_attr":
            assert isinstance(node.target, str)
            self._root[node.target] = _attribute(self._model, self._source, node.target)
            self._new[node] = self._graph.get_attr(node.target)
        return self._new[node]

    def _inputs(self, placeholders: list[fx.Node], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Add the inputs under the names that the network's own forward gives them."""
        if not all(isinstance(each, Tensor) for each in (*args, *kwargs.values())):
            raise ModelError("its inputs are nested")
        names = list(inspect.signature(self._model.forward).parameters)
        given = [*names[: len(args)], *kwargs]
        by_name = dict(zip(given, placeholders, strict=True))
        for name in sorted(given, key=lambda name: names.index(name) if name in names else len(names)):
            self._new[by_name[name]] = self._graph.placeholder(name)


def _is_whole(module: nn.Module) -> bool:
    """Tell torch's own modules without children, which take one tensor to one."""
    own = any(kind.__module__.startswith("torch.nn.modules") for kind in type(module).__mro__ if kind is not nn.Module)
    return next(module.children(), None) is None and own and not isinstance(module, nn.RNNBase)


def _path(node: fx.Node) -> str:
    """Return the name of the innermost module that makes a call."""
    places = list(node.meta.get("nn_module_stack", {}).values())
    path = places[-1][0] if places else ""
    return "" if path.startswith("_empty") else ".".join(part.partition("@")[0] for part in path.split("."))


def _writes(node: fx.Node) -> bool:
    """Tell what writes a buffer."""
    first = node.args[0] if node.args else None
    named = isinstance(first, fx.Node) and first.op == "get_attr"
    return named and node.op == "call_function" and node.target is torch.ops.aten.copy_.default


def _path_of_buffer(node: fx.Node) -> str:
    """Return the name of the module whose buffer is written."""
    first = node.args[0]
    assert isinstance(first, fx.Node)
    return str(first.target).rpartition(".")[0]


def _attribute(model: nn.Module, source: nn.Module, target: str) -> Any:
    """Return a parameter or buffer of the network, or a constant that the export found in its code."""
    for holder in (model, source):
        place: Any = holder
        for part in target.split("."):
            place = getattr(place, part, None)
        if place is not None:
            return place
    raise ModelError(f"it reads '{target}', which is nowhere")


def _plain(output: Any, graph: fx.Graph) -> Any:
    """Return an output as containers that a graph's code can write down."""
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return graph.call_function(type(output), tuple(output))
    if isinstance(output, dict) and type(output) is not dict:
        return graph.call_function(type(output), (), dict(output))
    return output
