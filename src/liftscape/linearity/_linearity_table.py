"""How linear each layer is on the data."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from liftscape._sketch import bars
from liftscape.functional import require_module
from liftscape.linearity._called import foldable
from liftscape.linearity._fit import AffineFit, fitting, replace_run
from liftscape.linearity._occupancy import Occupancy, watching_pieces
from liftscape.linearity._runs import Run, find_runs
from liftscape.outcomes import Outcome, TableOutcome
from liftscape.risk import EmpiricalRisk
from liftscape.sites import run_batches

__all__ = ["LinearityRow", "LinearityTable", "layer_linearity", "model_and_inputs", "rows_of"]


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
    runs = {run.activation: run for run in found if run.refusal is None}
    # Pieces and maps in one pass: the data may be slow to read.
    with watching_pieces(model) as occupied, fitting(model, list(runs.values())) as fitted:
        run_batches(model, source)
    fits = fitted()
    changes = {name: float("nan") for name in fits}
    if isinstance(subject, EmpiricalRisk):
        risk = subject.with_model(model)
        changes = {name: _loss_change(risk, runs[name], fit) for name, fit in fits.items()}
    return LinearityTable(tuple(_row(own, fits, changes) for own in occupied()))


def rows_of(occupancies: Iterable[Occupancy]) -> tuple[LinearityRow, ...]:
    """Return rows without affine maps.

    Args:
        occupancies: of the activations.

    Returns:
        One row for each.
    """
    return tuple(_row(own, {}, {}) for own in occupancies)


def _loss_change(risk: EmpiricalRisk, run: Run, fit: AffineFit) -> float:
    """Return by how much R changes when an affine map stands in for a layer."""
    return float(risk.with_model(replace_run(risk.model, run, fit)).value() - risk.value())


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


def _row(occupancy: Occupancy, fits: dict[str, AffineFit], changes: dict[str, float]) -> LinearityRow:
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
