"""Dead neurons leave into the next bias, and affine ones into a map beside the layer."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.folding._affine_path import with_affine_paths
from liftscape.folding._narrow import narrowed
from liftscape.folding._operation_count import operations
from liftscape.linearity import Occupancy, Run, find_runs, foldable, model_and_inputs, runs_occupancy
from liftscape.outcomes import LiftscapeError, Outcome, TableOutcome
from liftscape.risk import EmpiricalRisk
from liftscape.sites import change_of_outputs, copy_with

__all__ = ["Trim", "TrimRow", "trim"]


@dataclass(frozen=True)
class TrimRow(Outcome):
    """What became of the neurons of one activation.

    Attributes:
        activation: its name.
        neurons: before.
        removed: dead ones that left.
        affine: further ones that one alive piece holds on all samples.
        beside: affine ones that left into a map beside the layer.
        reason: why affine ones left or stayed, or all stayed, one sentence; "" where there is nothing to say.
    """

    activation: str
    neurons: int
    removed: int
    affine: int
    beside: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Trim(TableOutcome):
    """A network without its dead neurons.

    Attributes:
        model: new.
        rows: one for each activation between two affine maps.
        parameters_before: of the given network.
        parameters_after: of the new one.
        operations_before: multiplications for one sample.
        operations_after: the same.
        base: the network that was trimmed, as given.
    """

    model: nn.Module
    rows: tuple[TrimRow, ...]
    parameters_before: int
    parameters_after: int
    operations_before: int
    operations_after: int
    base: nn.Module = field(repr=False)


def trim(subject: "nn.Module | EmpiricalRisk", inputs: Any = None, *, affine_path: bool = False) -> Trim:
    """Remove the neurons whose activation is constant on all samples: d ← d + Σ_j B_j μ_j over those with λ_j = 0.

    With `affine_path` those L that are affine on all samples leave as well, h ↦ Σ_{j∈L} B_j(λ_j(a_j·h + c_j) + μ_j)
    being one map beside the layer, where it takes fewer multiplications: |L| > m_in·m_out/(m_in + m_out) for Linears.

    Outputs on S are kept, and on the convex hull of the features of S. One neuron of each layer stays. Beside a padded
    convolution only neurons with μ = 0 leave, since the padding would lack their constant; beside one in groups none.

    Source: theory 5.

    Args:
        subject: a module, or a risk, whose data are used when no inputs are given.
        inputs: S: a tensor, (inputs, targets), or a re-iterable of batches.
        affine_path: whether affine neurons of mixed layers may leave.

    Returns:
        The network; the given one is left as it was.

    Raises:
        LiftscapeError: if no inputs are given for a module.
        ModelError: if the network is none, on the meta device, or does not run on the inputs.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> _ = net[0].bias.data.copy_(torch.tensor([9.0, -9.0, -9.0]))
        >>> trim(net, torch.zeros(4, 1)).rows[0].removed
        2
    """
    model, source = model_and_inputs(subject, inputs)
    if source is None:
        raise LiftscapeError("trim needs the inputs on which neurons are dead; give inputs, or a risk.")
    runs, occupancies = _free_runs(model, source)
    network = model
    leaves = lambda own: bool((own.slope == 0).any()) or (affine_path and bool((own.piece >= 0).any()))
    if any(run.is_call and leaves(occupancies[run.activation]) for run in runs):
        network, found = foldable(model, source)
        runs = [run for run in found if run.activation in occupancies]
    trimmed, rows = copy_with(network, {}), []
    for run in runs:
        own = occupancies[run.activation]
        kept = _kept(trimmed, run, own)
        affine = int(((own.piece >= 0) & (own.slope != 0)).sum())
        rows.append(TrimRow(run.activation, len(kept), int((~kept).sum()), affine))
        if not bool(kept.all()):
            trimmed = copy_with(trimmed, narrowed(trimmed, run, own.intercept, kept))
    if affine_path:
        trimmed, choices = with_affine_paths(trimmed, *_free_runs(trimmed, source), source)
        rows = [
            replace(row, beside=choices[row.activation].left, reason=choices[row.activation].reason)
            if row.activation in choices
            else replace(row, reason="another number of samples takes another way through the network.")
            for row in rows
        ]
    if any(row.removed or row.beside for row in rows):
        changed = change_of_outputs(model, trimmed, source)
        if changed is not None:
            reason = f"{changed}, so what the network calls depends on them."
            trimmed, rows = copy_with(model, {}), [replace(row, removed=0, beside=0, reason=reason) for row in rows]
    count = lambda network: sum(parameter.numel() for parameter in network.parameters())
    sizes = count(model), count(trimmed)
    return Trim(trimmed, tuple(rows), *sizes, operations(model, source), operations(trimmed, source), model)


def _free_runs(model: nn.Module, source: Any) -> tuple[list[Run], dict[str, Occupancy]]:
    """Return the runs without refusals, and which pieces hold their neurons."""
    runs = [run for run in find_runs(model, source) if run.refusal is None]
    return runs, runs_occupancy(model, runs, source)


def _kept(model: nn.Module, run: Run, own: Occupancy) -> Tensor:
    """Return which neurons stay."""
    first, last = model.get_submodule(run.first), model.get_submodule(run.last)
    dead = own.slope == 0
    if not isinstance(last, nn.Linear):
        if first.groups != 1 or last.groups != 1:
            # A channel that leaves would shift the others into other groups.
            dead = torch.zeros_like(dead)
        elif last.padding not in {(0,), (0, 0), "valid"}:
            dead &= own.intercept == 0
    if bool(dead.all()):
        dead = dead.clone()
        dead[0] = False
    return ~dead
