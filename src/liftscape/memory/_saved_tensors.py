"""The bytes that a graph saves for its backward passes."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from liftscape.derivatives import GradientGraph, Point, refuse_hidden
from liftscape.functional import new_nodes
from liftscape.samples import Batch, dense_parts

__all__ = ["saved_bytes"]

Build = Callable[[Tensor], GradientGraph]

# What torch.func says inside a model where tensors are saved through hooks.
_NO_HOOKS = "yet support saved tensor hooks"


def saved_bytes(point: Point, batch: Batch, build: Build) -> tuple[int, int]:
    """Return the bytes that a graph saves, and those that its forward half does.

    Args:
        point: whose loss is differentiated.
        batch: on which.
        build: builds the graph of products from a loss with its own.

    Returns:
        Bytes of all storages that are neither parameters, buffers nor data, each counted once.

    Raises:
        ModelError: if a function on the way has no second derivative.
        RuntimeError: what torch, the model or the loss raises.
    """
    inputs = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
    own = [*point.leaves.values(), *point.constants.values(), *point.buffers.values(), *inputs]
    known = {part.untyped_storage().data_ptr() for tensor in own for part in dense_parts(tensor)}
    try:
        return _counted(point, batch, build, known)
    except RuntimeError as error:
        if _NO_HOOKS in str(error):
            return _walked(point, batch, build, known)
        # Hooks fail in control flow as well, where tensors without numbers are traced; the plain graph names it.
        with torch.enable_grad():
            refuse_hidden(point, point.loss_on(batch), twice=True)
        raise


def _counted(point: Point, batch: Batch, build: Build, known: set[int]) -> tuple[int, int]:
    """Count what is saved as it is saved."""
    sizes: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        _add(sizes, known, tensor)
        # The tensor itself would make a cycle that only the garbage collector frees.
        return tensor.detach()

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        # Loss and graph are held so that the addresses of what they save are not given to other tensors.
        value = point.loss_on(batch)
        forward = sum(sizes.values())
        graph = build(value)
    del value, graph
    return sum(sizes.values()), forward


def _walked(point: Point, batch: Batch, build: Build, known: set[int]) -> tuple[int, int]:
    """Count what the nodes of the finished graph hold."""
    # Second choice, since reading what a checkpointed node saves computes it again.
    sizes: dict[int, int] = {}
    with torch.enable_grad():
        value = point.loss_on(batch)
        graph = build(value)
    for node in new_nodes([value.grad_fn], set()):
        _add_saved(sizes, known, node)
    forward = sum(sizes.values())
    for node in new_nodes(graph.nodes, set()):
        _add_saved(sizes, known, node)
    return sum(sizes.values()), forward


def _add(sizes: dict[int, int], known: set[int], tensor: Tensor) -> None:
    """Note the storages of a tensor."""
    for part in dense_parts(tensor):
        storage = part.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()


def _add_saved(sizes: dict[int, int], known: set[int], node: Any) -> None:
    """Note the storages of what a node saves."""
    for leaf in tree_leaves([getattr(node, name) for name in _names_of_saved(type(node))]):
        if isinstance(leaf, Tensor):
            _add(sizes, known, leaf)


@cache
def _names_of_saved(kind: type) -> list[str]:
    """Return the attributes under which nodes of a kind show what they save: torch's own, or a user's function."""
    return [name for name in dir(kind) if name.startswith("_saved_") or name == "saved_tensors"]
