"""How linear each layer is on the data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import nn

from liftscape._sketch import bars
from liftscape.forward import stream
from liftscape.functional import require_module
from liftscape.linearity._called import foldable
from liftscape.linearity._fit import AffineFit, RunFits, replace_run
from liftscape.linearity._occupancy import Moments, Occupancy, PieceMoments
from liftscape.linearity._runs import Run, find_runs
from liftscape.outcomes import Outcome, TableOutcome
from liftscape.risk import EmpiricalRisk, values_of

__all__ = [
    "LinearityRow",
    "LinearityTable",
    "Measured",
    "layer_linearity",
    "measure_runs",
    "model_and_inputs",
    "rows_of",
    "stand_ins",
    "table_of",
]


@dataclass(frozen=True)
class LinearityRow(Outcome):
    """One activation.

    Attributes:
        name: the activation module.
        neurons: number of neurons.
        occupancy: share of neurons that one affine piece holds on all samples.
        dead: neurons on a piece with λ = 0.
        min_correlation: smallest |ρ| of pre- and post-activation over neurons that are not constant.
        margin: smallest distance of an occupied neuron to an end of its piece.
        exactly_linear: whether one piece holds each neuron; the test, where the correlation is only evidence.
        r2: of the best affine map from what reaches the layer to the next pre-activation, the test for removal, since
            neurons may make up for each other; NaN where no affine map of one input and one reader is around it.
        adjusted_r2: R² corrected for what any map of so many inputs would explain; NaN where there are no more samples
            than inputs, so that the map passes through all of them whatever the layer does.
        loss_change: R with that map in the layer's place, minus R; NaN without a risk or without the map.
    """

    name: str
    neurons: int
    occupancy: float
    dead: int
    min_correlation: float
    margin: float
    exactly_linear: bool
    r2: float
    adjusted_r2: float
    loss_change: float


@dataclass(frozen=True)
class LinearityTable(TableOutcome):
    """One row for each activation module, in the order of the module tree.

    Attributes:
        rows: the layers.
    """

    rows: tuple[LinearityRow, ...]

    def _figure(self) -> str:
        return bars([row.name for row in self.rows], [row.occupancy for row in self.rows], "share on the main piece")


def layer_linearity(
    subject: "nn.Module | EmpiricalRisk", inputs: Any = None, *, affine_maps: bool = True
) -> LinearityTable:
    """Measure how linear each layer is on S, in one streaming pass with float64 accumulators.

    A layer is exactly linear if each of its neurons stays on one affine piece for all samples; then it folds away. With
    a risk each layer is also replaced by the affine map that fits it best, one at a time, and the loss compared.

    Source: Bai et al. 2022 (arXiv 2205.13283), layer linearization; theory 4.

    Args:
        subject: any module, or a risk, whose data are used when no inputs are given.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches.
        affine_maps: whether the affine maps that fit best are looked for; without, r2 and loss_change are NaN.

    Returns:
        The table.

    Raises:
        ModelError: if the network is none, on the meta device, or does not run on the inputs.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> layer_linearity(net, torch.randn(8, 2)).rows[0].exactly_linear
        False
    """
    model, source = model_and_inputs(subject, inputs)
    found: tuple[Run, ...] = ()
    if affine_maps and isinstance(subject, EmpiricalRisk):
        # What is called as a function must be a module to be replaced.
        model, found = foldable(model, source)
    elif affine_maps:
        found = find_runs(model, source)
    measured = measure_runs(model, found, source)
    changes: dict[str, float] = {}
    if isinstance(subject, EmpiricalRisk):
        networks = stand_ins(model, found, measured.fits)
        values = values_of(subject, [model, *networks.values()])
        changes = {name: float(value - values[0]) for name, value in zip(networks, values[1:], strict=True)}
    return table_of(measured, changes)


@final
@dataclass(frozen=True)
class Measured:
    """What one pass over the data tells of a network's layers.

    Attributes:
        moments: of all activations.
        fits: of the affine map that could stand in for each run, by the activation's name.
    """

    moments: Moments
    fits: Mapping[str, AffineFit]


def measure_runs(model: nn.Module, runs: Sequence[Run], inputs: Any) -> Measured:
    """Measure pieces and affine maps in one pass, since the data may be slow to read.

    Args:
        model: any module; it is left as it was.
        runs: of that module; those with a refusal are left out.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, read once.

    Returns:
        The measurements.
    """
    free = [run for run in runs if run.refusal is None]
    return Measured(*stream(model, inputs, [PieceMoments.of(model), RunFits.of(model, free)]))


def stand_ins(model: nn.Module, runs: Sequence[Run], fits: Mapping[str, AffineFit]) -> dict[str, nn.Module]:
    """Return for each run that was fitted the network in which the map takes its place, other weights shared.

    Args:
        model: any module, whose activations in these runs are modules.
        runs: of that module.
        fits: by the activation's name.

    Returns:
        Networks by the same name.
    """
    named = {run.activation: run for run in runs}
    return {name: replace_run(model, named[name], fit, share=True) for name, fit in fits.items()}


def table_of(measured: Measured, changes: Mapping[str, float]) -> LinearityTable:
    """Return the table of what was measured.

    Args:
        measured: in one pass.
        changes: of the loss, by the activation's name, where they are known.

    Returns:
        The table.
    """
    return LinearityTable(tuple(_row(own, measured.fits, changes) for own in measured.moments.occupancies()))


def rows_of(occupancies: Iterable[Occupancy]) -> tuple[LinearityRow, ...]:
    """Return rows without affine maps.

    Args:
        occupancies: of the activations.

    Returns:
        One row for each.
    """
    return tuple(_row(own, {}, {}) for own in occupancies)


def model_and_inputs(subject: "nn.Module | EmpiricalRisk", inputs: Any) -> tuple[nn.Module, Any]:
    """Return the module and its data, from a risk where no inputs are given.

    Args:
        subject: any module, or a risk.
        inputs: inputs, or None.

    Returns:
        The module and the inputs.
    """
    if isinstance(subject, EmpiricalRisk):
        return subject.model, subject.batches if inputs is None else inputs
    return require_module(subject), inputs


def _row(occupancy: Occupancy, fits: Mapping[str, AffineFit], changes: Mapping[str, float]) -> LinearityRow:
    """Summarise one layer."""
    known = occupancy.correlation[~occupancy.correlation.isnan()]
    margins = occupancy.margin[~occupancy.margin.isnan()]
    return LinearityRow(
        occupancy.name,
        len(occupancy.piece),
        occupancy.share,
        int((occupancy.slope == 0).sum()),
        float(known.min()) if len(known) else float("nan"),
        float(margins.min()) if len(margins) else float("nan"),
        occupancy.exactly_linear,
        fits[occupancy.name].r2 if occupancy.name in fits else float("nan"),
        fits[occupancy.name].adjusted_r2 if occupancy.name in fits else float("nan"),
        changes.get(occupancy.name, float("nan")),
    )
