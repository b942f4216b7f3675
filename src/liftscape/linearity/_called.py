"""Activations that are called as functions become modules, so that they can leave."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from liftscape.activations import as_module, kind_of, module_of
from liftscape.forward import as_graph, head_of, stream
from liftscape.linearity._occupancy import Moments, Occupancy, PieceMoments, activation_modules, has_pieces
from liftscape.linearity._runs import Run, find_runs
from liftscape.outcomes import ActivationError, ModelError, SiteError

__all__ = ["foldable", "occupancy_of_runs", "run_pieces", "runs_occupancy"]


def foldable(model: nn.Module, inputs: Any) -> tuple[nn.Module, tuple[Run, ...]]:
    """Return a network whose activations between affine maps are modules, with its runs.

    That is the network itself, or, where such an activation is called as a function, the graph that torch.export makes
    of it, in which every such call is a module under the call's name. No other activation's name changes.

    Source: none.

    Args:
        model: any module; it is left as it was.
        inputs: the first batch is used; or the head of the data.

    Returns:
        The network and its runs; those whose call cannot become a module carry a refusal.

    Example:
        >>> import torch
        >>> class Net(nn.Module):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 1)
        ...
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         return self.last(torch.relu(self.first(x)))
        >>> network, runs = foldable(Net(), torch.zeros(4, 2))
        >>> runs[0].activation, network.relu, list(dict(network.named_parameters()))[:2]
        ('relu', ReLU(), ['first.weight', 'first.bias'])
    """
    head = head_of(inputs)
    runs = find_runs(model, head)
    if not any(run.is_call and run.refusal is None for run in runs):
        return model, runs
    try:
        graph = as_graph(model, head.first, _activation)
    except ModelError as error:
        reason = str(error).removesuffix(".")
        return model, tuple(replace(run, refusal=run.refusal or reason) if run.is_call else run for run in runs)
    seen = {run.activation: run for run in find_runs(graph, head)}
    return graph, tuple(_same_run(run, seen.get(run.activation)) for run in runs)


def _same_run(run: Run, found: Run | None) -> Run:
    """Return a run as it is in the graph, refused where an operation of another name or place stands for its call."""
    if found is not None and (found.first, found.last) == (run.first, run.last):
        return found
    return replace(
        run, refusal=run.refusal or f"the call '{run.activation}' is no operation of its own in torch.export's graph"
    )


def runs_occupancy(model: nn.Module, runs: Sequence[Run], inputs: Any) -> dict[str, Occupancy]:
    """Return which affine piece holds each neuron of the runs' activations on all of S, modules and calls alike.

    Args:
        model: any module; it is left as it was.
        runs: of that module; those with a refusal are left out.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, read once.

    Returns:
        Entries by the activation's name.

    Raises:
        SiteError: if one of them is never called.
    """
    observer = run_pieces(model, runs)
    if observer is None:
        return {}
    (moments,) = stream(model, inputs, [observer])
    return occupancy_of_runs(model, runs, moments)


def run_pieces(model: nn.Module, runs: Sequence[Run]) -> PieceMoments | None:
    """Return the observer of the runs' activations, None where none of the runs is free.

    Args:
        model: any module.
        runs: of that module; those with a refusal are left out.

    Returns:
        The observer.
    """
    free = [run for run in runs if run.refusal is None]
    # Calls are observed only where all activations are.
    names = None if any(run.is_call for run in free) else [run.activation for run in free]
    return PieceMoments.of(model, names) if free else None


def occupancy_of_runs(model: nn.Module, runs: Sequence[Run], moments: Moments) -> dict[str, Occupancy]:
    """Return which affine piece holds each neuron of the runs' activations, in the rounding of the model's dtype.

    Args:
        model: any module.
        runs: of that module; those with a refusal are left out.
        moments: of all its activations, or of those of the runs.

    Returns:
        Entries by the activation's name.

    Raises:
        SiteError: if one of them is never called.
    """
    free = [run.activation for run in runs if run.refusal is None]
    dtype = next(model.parameters()).dtype
    found = {own.name: own for own in moments.occupancies(dtype) if own.name in free}
    missing = [name for name in free if name not in found]
    if missing:
        raise SiteError(
            f"'{missing[0]}' is called on few samples but not on these inputs, so no pre-activations reach it; give "
            "batches of a size at which the forward pass takes one way."
        )
    return found


def _activation(_name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module | None:
    """Return the module for a call of an activation, or of a dropout, which is to drop again in training."""
    if isinstance(function, nn.Module):
        shared = next(function.parameters(), None) is not None
        return None if shared or not activation_modules(function) else as_module(function)
    if function.__name__.strip("_") == "dropout":
        return nn.Dropout(args[0]).train(bool(args[1]))
    if not has_pieces(function):
        return None
    try:
        return module_of(kind_of(function, *args, **kwargs))
    except ActivationError:
        return None
