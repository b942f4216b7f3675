"""The graph of a module's own forward, and its activations as modules that can be folded in turn."""

import copy
from typing import Any, final

from torch import Tensor, fx, nn

from liftscape.activations import kind_of, module_of
from liftscape.functional import copy_model
from liftscape.linearity import has_pieces
from liftscape.outcomes import ActivationError

__all__ = ["call_activations_as_modules", "graph_of"]


@final
class _Tracer(fx.Tracer):
    """Traces a module's own forward alone; its children are called as they are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return True."""
        return True


def graph_of(module: nn.Module) -> fx.Graph:
    """Return the graph of a module's own forward, with its children as calls.

    Args:
        module: any; where it is a graph already, that is copied.

    Returns:
        The graph.
    """
    if isinstance(module, fx.GraphModule):
        return copy.deepcopy(module.graph)
    # A forward pass that assigns a buffer would leave a symbol in its place.
    return _Tracer().trace(copy_model(module, share=True))


def call_activations_as_modules(module: nn.Module, graph: fx.Graph) -> None:
    """Let a graph call a module wherever it called an activation of torch as a function, out of place.

    Args:
        module: gets the new modules as children, under names that it has not used.
        graph: of it; changed.
    """
    for node in list(graph.nodes):
        made = _module_for(node)
        if made is None:
            continue
        name = str(node.name)
        while hasattr(module, name):
            name = f"{name}_"
        module.add_module(name, made.train(module.training))
        with graph.inserting_before(node):
            call = graph.call_module(name, (node.args[0],))
        node.replace_all_uses_with(call)
        graph.erase_node(node)


def _module_for(node: fx.Node) -> nn.Module | None:
    """Return the module for a call of an activation, None for any other call."""
    function = getattr(Tensor, str(node.target), None) if node.op == "call_method" else node.target
    if node.op not in {"call_function", "call_method"} or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    further = {key: value for key, value in node.kwargs.items() if key != "inplace"}
    in_place = node.kwargs.get("inplace") or str(getattr(function, "__name__", "")).endswith("_")
    if in_place or any(isinstance(value, fx.Node) for value in (*node.args[1:], *further.values())):
        return None
    return _module_of(function, node.args[1:], further)


def _module_of(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module | None:
    """Return the module of an activation with these parameters, None where there is none."""
    if not has_pieces(function):
        return None
    try:
        return module_of(kind_of(function, *args, **kwargs))
    except ActivationError:
        return None
