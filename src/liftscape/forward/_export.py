"""A network as the graph that torch.export makes of it, with torch's modules called as the modules they are."""

import inspect
import logging
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import tree_leaves, tree_map_only

from liftscape.forward._graph_builder import GraphBuilder, MakeModule
from liftscape.functional import (
    arguments_of,
    call_model,
    copy_model,
    named_tensors,
    trainable_parameters,
    twice_differentiable,
    untouched,
)
from liftscape.outcomes import ModelError

__all__ = ["as_graph"]


def as_graph(model: nn.Module, inputs: Any, make_module: MakeModule) -> fx.GraphModule:
    """Return a network's forward pass as a graph in which chosen calls of functions are modules.

    Torch's modules without children are called as such, under the names that they have; calls have the names of
    :class:`CallLabels`, and so have the modules that are made of them. Other functions stand there as operations.

    Args:
        model: any module; it is left as it was.
        inputs: of one batch; axes longer than 1 may differ later, except where the network's own code fixes them.
        make_module: called with a call's name, its function and its further arguments.

    Returns:
        A new module with the same parameters by name, which computes the same; dropout in attention stays as it is now.

    Raises:
        ModelError: if torch.export cannot follow the network, or the graph does not compute the same.
    """
    batch = _several(dict(inputs) if isinstance(inputs, Mapping) else inputs)
    copied, reasons = copy_model(model), []
    # Axes of one length more than another batch may have: of all axes, or of samples alone where others are fixed.
    for axes in (None, 1):
        try:
            with untouched(model):
                program = _exported(copied, batch, axes)
                graph = GraphBuilder(copied, program, make_module).build(*arguments_of(batch))
                _compare(model, graph, batch)
        except Exception as error:  # What torch.export raises is of many kinds, none of them public.
            reasons.append(" ".join(str(error).split()).partition(". ")[0][:200])
        else:
            return graph
    raise ModelError(
        f"torch.export makes no graph of {type(model).__name__} that computes the same: {reasons[-1].rstrip('.')}; "
        "write the activations that are called as functions as modules."
    )


def _several(inputs: Any) -> Any:
    """Return inputs of at least two samples, since an axis of one is taken for fixed."""
    sizes = {leaf.shape[0] for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.ndim}
    if sizes == {1}:
        return tree_map_only(Tensor, lambda leaf: torch.cat([leaf, leaf]) if leaf.ndim else leaf, inputs)
    return inputs


def _exported(model: nn.Module, inputs: Any, axes: int | None) -> ExportedProgram:
    """Export with so many leading axes free, all of them when None."""
    args, kwargs = arguments_of(inputs)
    free = lambda leaf: {axis: Dim.AUTO for axis, size in enumerate(leaf.shape[:axes]) if size > 1}
    shapes = tree_map_only(Tensor, free, (*args, *kwargs.values()))
    names = list(inspect.signature(model.forward).parameters)
    spec = dict(zip([*names[: len(args)], *kwargs], shapes, strict=True))
    with warnings.catch_warnings(), twice_differentiable(model), _silence():
        warnings.simplefilter("ignore")
        return torch.export.export(model, args, kwargs, dynamic_shapes=spec, strict=False)


@contextmanager
def _silence() -> Generator[None]:
    """Let torch.export write no pages on what it cannot follow, since the error says so in a sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)


def _compare(model: nn.Module, graph: nn.Module, inputs: Any) -> None:
    """Raise unless both compute the same, on these inputs and on half of them."""
    half = lambda leaf: leaf[: -(-len(leaf) // 2)] if leaf.ndim else leaf
    for part in (inputs, tree_map_only(Tensor, half, inputs)):
        with torch.no_grad():
            ours, theirs = (named_tensors(call_model(m, trainable_parameters(m), part)) for m in (graph, model))
        for (name, own), other in zip(ours.items(), theirs.values(), strict=True):
            scale = max(float(other.abs().max()), 1e-30) if other.numel() else 1.0
            gap = float((own - other).abs().max()) / scale if other.numel() else 0.0
            if other.is_floating_point() and not gap <= 1e4 * torch.finfo(other.dtype).eps:
                raise ModelError(f"output '{name}' differs by {gap:.1e} on a batch of {len(other)}")
