"""Inputs made up for a network that is embedded without any, so that what is returned has been run."""

from typing import Any

import torch
from torch import fx, nn

from liftscape.embedding._steps import traced
from liftscape.functional import MODEL_ERRORS, call_model, copy_model, trainable_parameters
from liftscape.outcomes import SiteError

__all__ = ["synthetic_inputs"]

_SAMPLES = 5


def synthetic_inputs(model: nn.Module, at: str) -> Any:
    """Return batches of random features for a network whose inputs each reach a Linear first.

    Args:
        model: any module; a copy of it is traced.
        at: the layer that is embedded, for the error.

    Returns:
        A re-iterable of one batch of normal features, with seed 0.

    Raises:
        SiteError: if the network reads something else, or does not run on them.
    """
    twin = copy_model(model)
    graph = traced(twin, at)
    weight = twin.get_submodule(at).get_parameter("weight")
    draws = torch.Generator().manual_seed(0)
    batch = []
    for node in graph.nodes:
        if node.op == "placeholder" and node.users:
            readers = _readers(node, twin)
            if not readers:
                raise SiteError(_unseen(at, model))
            batch.append(torch.randn(_SAMPLES, readers[0].in_features, generator=draws, dtype=torch.float64).to(weight))
    inputs: Any = tuple(batch) if len(batch) > 1 else batch[0] if batch else None
    try:
        with torch.no_grad():
            call_model(twin, trainable_parameters(twin), inputs)
    except MODEL_ERRORS as error:
        raise SiteError(_unseen(at, model)) from error
    return [(inputs, torch.zeros(_SAMPLES))]


def _readers(node: fx.Node, model: nn.Module) -> list[nn.Linear]:
    """Return the Linears that read a node, or what other functions make of it."""
    found, waiting, seen = list[nn.Linear](), [node], set[fx.Node]()
    while waiting:
        for user in waiting.pop(0).users:
            called = model.get_submodule(str(user.target)) if user.op == "call_module" else None
            if isinstance(called, nn.Linear):
                found.append(called)
            elif user not in seen:
                seen.add(user)
                waiting.append(user)
    return found


def _unseen(at: str, model: nn.Module) -> str:
    """Say that inputs are needed."""
    return (
        f"whether {type(model).__name__} reads more of '{at}' than its neurons is seen by running it, and no inputs "
        "can be made up for it; pass inputs=."
    )
