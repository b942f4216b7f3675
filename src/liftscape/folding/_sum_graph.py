"""Sums of affine branches in the forward pass of one module, found and replaced in the graph that torch.fx traces."""

import operator
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.folding._graph_modules import call_activations_as_modules, graph_of
from liftscape.forward import AFFINE, Affine
from liftscape.linearity import chain_of, identity_like, sum_of

__all__ = ["FoundSum", "collapse_sums", "has_sums"]

_aten = torch.ops.aten
_ADDITIONS: set[Any] = {operator.add, operator.iadd, torch.add, _aten.add.Tensor, _aten.add_.Tensor, "add", "add_"}
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class FoundSum:
    """One sum of two branches that read one tensor.

    Attributes:
        modules: names of the modules on the branches.
        made: name of the map that took their place; "" where they stay.
        reason: why they stay; "" where they left.
    """

    modules: tuple[str, ...]
    made: str
    reason: str


def has_sums(graph: fx.Graph) -> bool:
    """Tell whether two tensors are added in a graph.

    Args:
        graph: any.

    Returns:
        Whether they are.
    """
    return any(_terms(node) is not None for node in graph.nodes)


def collapse_sums(module: nn.Module, graph: fx.Graph, shared: Container[int]) -> tuple[nn.Module, tuple[FoundSum, ...]]:
    """Put one map in the place of each sum of affine branches in a module's own forward.

    Args:
        module: a copy that may be changed.
        graph: of it, from :func:`graph_of`; changed.
        shared: identities of parameters that several modules hold.

    Returns:
        The module itself where nothing changed, one map where nothing else is left of it, or a graph module that keeps
        the names of all other children and calls activations as modules, so that their layers fold on; and the sums.
    """
    found: list[FoundSum] = []
    made: dict[str, nn.Module] = {}
    while (step := _first_sum(module, graph, made, found, shared)) is not None:
        found.append(step)
    if not made:
        return module, tuple(found)
    graph.lint()
    nodes = [node for node in graph.nodes if node.op != "output" and (node.users or node.op != "placeholder")]
    (returned,) = next(node for node in graph.nodes if node.op == "output").args
    if [node.op for node in nodes] == ["placeholder", "call_module"] and returned is nodes[1]:
        return made[nodes[1].target], tuple(found)
    for name, map_ in made.items():
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, map_)
    call_activations_as_modules(module, graph)
    for node in graph.nodes:
        # Annotations of the old code would have to be found again wherever the graph is loaded.
        node.type = None
    rewritten = fx.GraphModule(module, graph)
    rewritten.training = module.training
    return rewritten, tuple(found)


def _first_sum(
    module: nn.Module,
    graph: fx.Graph,
    made: dict[str, nn.Module],
    found: list[FoundSum],
    shared: Container[int],
) -> FoundSum | None:
    """Replace the first sum that can be, note those that cannot, and return None when none is left."""
    seen = {each.modules for each in found}
    for node in graph.nodes:
        terms = _terms(node)
        if terms is None:
            continue
        branches = _branches(module, made, terms)
        if branches is None:
            names = tuple(str(term.target) for term in terms if term.op == "call_module")
            if names and names not in seen:
                return FoundSum(names, "", "the terms of the sum are not affine in one tensor.")
            continue
        source, chains = branches
        calls = [each for chain in chains for each in chain]
        names = tuple(str(each.target) for each in calls)
        if not names or names in seen:
            continue
        children = [_child(module, made, each) for each in calls]
        layers = [[layer for each in chain for layer in _layers(_child(module, made, each)) or ()] for chain in chains]
        whole = _refusal(graph, names, children, shared) or _collapsed(layers)
        if isinstance(whole, str):
            return FoundSum(names, "", f"{whole}.")
        # Under the name of the branch with more weights, not of a shortcut.
        weights = [sum(own.numel() for layer in each for own in layer.parameters()) for each in layers]
        target = str(chains[0 if weights[0] >= weights[1] else 1][-1].target)
        made[target] = whole.train(module.training)
        with graph.inserting_before(node):
            call = graph.call_module(target, (source,))
        node.replace_all_uses_with(call)
        graph.erase_node(node)
        for each in reversed(calls):
            graph.erase_node(each)
        return FoundSum(names, target, "")
    return None


def _terms(node: fx.Node) -> list[fx.Node] | None:
    """Return the two tensors that a node adds, None where it does something else."""
    if node.op not in {"call_function", "call_method"} or node.target not in _ADDITIONS:
        return None
    terms = [each for each in node.args if isinstance(each, fx.Node)]
    alone = len(terms) == len(node.args) == 2 and not node.kwargs and terms[0] is not terms[1]
    return terms if alone else None


def _branches(
    module: nn.Module, made: dict[str, nn.Module], terms: list[fx.Node]
) -> tuple[fx.Node, tuple[list[fx.Node], list[fx.Node]]] | None:
    """Return the tensor that both terms are affine in, and the calls on the way from it to either."""
    ways = [_way_up(module, made, term) for term in terms]
    sources = [each for each in ways[0] if each in ways[1]]
    if not sources:
        return None
    # A way begins with its term and ends with what no affine call made.
    first, second = (list(reversed(way[: way.index(sources[0])])) for way in ways)
    return sources[0], (first, second)


def _way_up(module: nn.Module, made: dict[str, nn.Module], term: fx.Node) -> list[fx.Node]:
    """Return a term and what it is made of, as long as affine calls used nowhere else make it."""
    way = [term]
    while len(way[-1].users) == 1 and _layers(_child(module, made, way[-1])) is not None:
        (read,) = way[-1].args
        assert isinstance(read, fx.Node)
        way.append(read)
    return way


def _child(module: nn.Module, made: dict[str, nn.Module], node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls with one tensor and nothing else, None for other nodes."""
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
        return None
    name = str(node.target)
    return made[name] if name in made else module.get_submodule(name)


def _layers(module: nn.Module | None) -> list[nn.Module] | None:
    """Return the maps and norms that a module consists of, None where it is not affine or not known to be."""
    if module is None or module._forward_hooks or module._forward_pre_hooks:
        return None
    if isinstance(module, AFFINE):
        plain = any(type(module).forward is kind.forward for kind in AFFINE) and "weight" in module._parameters
        return [module] if plain else None
    if isinstance(module, _BatchNorm):
        return None if module.training or module.running_mean is None else [module]
    if type(module) is nn.Identity or (type(module) is nn.Dropout and not module.training):
        return []
    if type(module) is nn.Sequential:
        parts = [_layers(child) for child in module._modules.values()]
    elif next(module.children(), None) is not None and not isinstance(module, _CONTAINERS):
        parts = _row_of(module)
    else:
        return None
    return None if any(part is None for part in parts) else [layer for part in parts for layer in part or ()]


def _row_of(module: nn.Module) -> list[list[nn.Module] | None]:
    """Return the layers of each call of a module whose forward calls one child after the other, else one None."""
    try:
        graph = graph_of(module)
    except Exception:  # What tracing raises is of many kinds; a forward that cannot be traced is no row.
        return [None]
    nodes = list(graph.nodes)
    row, parts = nodes[:1], []
    for node in nodes[1:-1]:
        parts.append(_layers(_child(module, {}, node)) if node.args == (row[-1],) else None)
        row.append(node)
    straight = nodes[0].op == "placeholder" and nodes[-1].args == (row[-1],)
    return parts if straight else [None]


def _refusal(
    graph: fx.Graph, names: Sequence[str], children: Sequence[nn.Module | None], shared: Container[int]
) -> str | None:
    """Say why modules must stay whatever they compute, if they must."""
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    for name, child in zip(names, children, strict=True):
        if calls[name] > 1:
            return f"'{name}' is called several times"
        if child is not None and any(id(parameter) in shared for parameter in child.parameters()):
            return f"parameters of '{name}' are shared with another module"
    return None


def _collapsed(layers: list[list[nn.Module]]) -> "Affine | str":
    """Return the sum of two rows of layers, one of which may be empty, as one map."""
    chains = [chain_of(own) if own else None for own in layers]
    for chain in chains:
        if isinstance(chain, str):
            return chain
    maps = [chain for chain in chains if chain is not None and not isinstance(chain, str)]
    if not maps:
        return "two copies of one tensor are added"
    if len(maps) == 2:
        return sum_of(*maps)
    unit = identity_like(maps[0])
    return unit if isinstance(unit, str) else sum_of(maps[0], unit)
