"""Dead neurons leave: what is constant on all samples goes into the next bias."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.folding._operations import operations
from liftscape.linearity import Occupancy, Run, absorbed, find_runs, foldable, model_and_inputs, runs_occupancy
from liftscape.outcomes import LiftscapeError, Outcome
from liftscape.risk import EmpiricalRisk
from liftscape.sites import AFFINE, copy_with, remade

__all__ = ["Trim", "TrimRow", "trim"]


@dataclass(frozen=True)
class TrimRow(Outcome):
    """What became of the neurons of one activation.

    Attributes:
        activation: its name.
        neurons: before.
        removed: dead ones that left.
        affine: further ones that one alive piece holds on all samples.
    """

    activation: str
    neurons: int
    removed: int
    affine: int


@dataclass(frozen=True)
class Trim(Outcome):
    """A network without its dead neurons.

    Attributes:
        model: new.
        rows: one for each activation between two affine maps.
        parameters_before: of the given network.
        parameters_after: of the new one.
        operations_before: multiplications for one sample.
        operations_after: the same.
    """

    model: nn.Module
    rows: tuple[TrimRow, ...]
    parameters_before: int
    parameters_after: int
    operations_before: int
    operations_after: int


def trim(model_or_risk: "nn.Module | EmpiricalRisk", inputs: Any = None) -> Trim:
    """Remove the neurons whose activation is constant on all samples: d ← d + Σ_j B_j μ_j over those with λ_j = 0.

    Outputs on S are kept, and on the convex hull of the features of S. One neuron of each layer stays. Beside a padded
    convolution only neurons with μ = 0 leave, since the padding would lack their constant; beside one in groups none.

    Source: theory 5.

    Args:
        model_or_risk: a module, or a risk, whose data are used when no inputs are given.
        inputs: S: a tensor, (inputs, targets), or a re-iterable of batches.

    Returns:
        The network; the given one is left as it was.

    Raises:
        LiftscapeError: if no inputs are given for a module.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> _ = net[0].bias.data.copy_(torch.tensor([9.0, -9.0, -9.0]))
        >>> trim(net, torch.zeros(4, 1)).rows[0].removed
        2
    """
    model, source = model_and_inputs(model_or_risk, inputs)
    if source is None:
        raise LiftscapeError("trim needs the inputs on which neurons are dead; give inputs, or a risk.")
    runs = [run for run in find_runs(model, source) if run.refusal is None]
    occupancies = runs_occupancy(model, runs, source)
    network: nn.Module = model
    if any(run.is_call and bool((occupancies[run.activation].slope == 0).any()) for run in runs):
        network, found = foldable(model, source)
        runs = [run for run in found if run.refusal is None]
    trimmed, rows = copy_with(network, {}), []
    for run in runs:
        own = occupancies[run.activation]
        kept = _kept(trimmed, run, own)
        affine = int(((own.piece >= 0) & (own.slope != 0)).sum())
        rows.append(TrimRow(run.activation, len(kept), int((~kept).sum()), affine))
        if not bool(kept.all()):
            trimmed = copy_with(trimmed, _narrowed(trimmed, run, own, kept))
    count = lambda network: sum(parameter.numel() for parameter in network.parameters())
    sizes = count(model), count(trimmed)
    return Trim(trimmed, tuple(rows), *sizes, operations(model, source), operations(trimmed, source))


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


def _narrowed(model: nn.Module, run: Run, own: Occupancy, kept: Tensor) -> dict[str, nn.Module]:
    """Return the modules of a run without the neurons that leave."""
    first, last = model.get_submodule(run.first), model.get_submodule(run.last)
    assert isinstance(first, AFFINE)
    assert isinstance(last, AFFINE)
    modules: dict[str, nn.Module] = {}
    if run.norm is not None:
        first = absorbed(first, model.get_submodule(run.norm))
        modules[run.norm] = nn.Identity()
    stay, go = (torch.nonzero(which).flatten().to(first.weight.device) for which in (kept, ~kept))
    constant = own.intercept.to(last.weight.device)[go]
    reached = last.weight.detach().double()[:, go]
    reached = reached.flatten(2).sum(dim=2) if reached.ndim > 2 else reached
    bias = None if last.bias is None else last.bias.detach().double()
    if bool(constant.any()):
        bias = reached @ constant + (0 if bias is None else bias)
    own_bias = None if first.bias is None else first.bias.detach()[stay]
    modules[run.first] = remade(first, first.weight.detach()[stay], own_bias)
    modules[run.last] = remade(last, last.weight.detach()[:, stay], bias)
    activation = model.get_submodule(run.activation)
    if isinstance(activation, nn.PReLU) and activation.num_parameters > 1:
        slopes = nn.PReLU(len(stay))
        slopes.weight = nn.Parameter(activation.weight.detach()[stay])
        modules[run.activation] = slopes
    return modules
