"""What each layer adds to the network, and what would leave with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from liftscape.folding import fold_measured
from liftscape.forward import head_of
from liftscape.linearity import foldable, measure_runs, stand_ins, table_of
from liftscape.outcomes import LiftscapeError, Outcome
from liftscape.risk import EmpiricalRisk, values_of

__all__ = ["LayerUse", "advise_on_folds", "layer_uses"]

# An affine map that explains so much and costs so little of the loss is worth a word.
_EXPLAINED, _CHEAP = 0.95, 0.01
# From so much on it is worth trying whatever it costs where R is small.
_NEARLY_ALL = 0.99


@dataclass(frozen=True)
class LayerUse(Outcome):
    """One activation.

    Attributes:
        activation: its name.
        neurons: how many, channels of a convolution.
        occupancy: share of neurons that one affine piece holds on all samples.
        dead: neurons on a piece with λ = 0.
        min_correlation: smallest |ρ| of pre- and post-activation.
        exactly_linear: whether one piece holds each neuron.
        folds_exactly: whether it leaves without a change of the outputs, as beside a padded convolution it may not.
        r2: of the affine map that could stand in for the layer; NaN where there is none.
        adjusted_r2: R² corrected for the map's inputs; NaN where there are no more samples than these.
        loss_change: R with that map, minus R.
        parameters_saved: by that map; 0 where there is none.
    """

    activation: str
    neurons: int
    occupancy: float
    dead: int
    min_correlation: float
    exactly_linear: bool
    folds_exactly: bool
    r2: float
    adjusted_r2: float
    loss_change: float
    parameters_saved: int

    @property
    def is_undecided(self) -> bool:
        """Whether the map passes through all samples because there are so few, which says nothing of the layer."""
        return isfinite(self.r2) and not isfinite(self.adjusted_r2)


def layer_uses(risk: EmpiricalRisk) -> tuple[LayerUse, ...]:
    """Return for each activation how linear it is, and what a fold of it would cost and save.

    Source: theory 4 and 5.

    Args:
        risk: the empirical risk.

    Returns:
        The rows; none where the model's layers cannot be told apart.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
        >>> net = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> [row.parameters_saved for row in layer_uses(EmpiricalRisk(net, "mse", (x, x)))]
        [8]
    """
    try:
        network, runs = foldable(risk.model, head_of(risk.batches))
        measured = measure_runs(network, runs, risk.batches)
        networks = stand_ins(network, runs, measured.fits)
        value, *values = values_of(risk, [network, *networks.values()])
    except LiftscapeError:
        return ()
    changes = {name: float(other - value) for name, other in zip(networks, values, strict=True)}
    rows = table_of(measured, changes).rows
    count = lambda model: sum(parameter.numel() for parameter in model.parameters())
    saved = {name: count(network) - count(other) for name, other in networks.items()}
    exact = set(fold_measured(network, runs, measured.moments, risk.batches).removed)
    return tuple(
        LayerUse(
            row.name,
            row.neurons,
            row.occupancy,
            row.dead,
            row.min_correlation,
            row.exactly_linear,
            row.name in exact,
            row.r2,
            row.adjusted_r2,
            row.loss_change,
            saved.get(row.name, 0),
        )
        for row in rows
    )


def advise_on_folds(rows: Sequence[LayerUse], value: float) -> str:
    """Say which layers could leave, "" where none could.

    Args:
        rows: of the layers.
        value: R.

    Returns:
        One sentence, and another one where there are too few samples to tell.
    """
    return " ".join(part for part in (_advice(rows, value), _warning(rows)) if part)


def _warning(rows: Sequence[LayerUse]) -> str:
    """Name the layers for which there are too few samples, "" where there are none."""
    few = [row for row in rows if row.is_undecided and not row.folds_exactly]
    if not few:
        return ""
    return (
        f"Whether one map could stand in for {_listed(few)} cannot be told: with as many inputs as there are samples "
        "it passes through all of them; give more data."
    )


def _advice(rows: Sequence[LayerUse], value: float) -> str:
    """Say which layers could leave, "" where none could."""
    exact = [row for row in rows if row.folds_exactly and row.parameters_saved > 0]
    if exact:
        names, saved = _listed(exact), sum(row.parameters_saved for row in exact)
        return f"On these data {names} can be folded away without any change of the outputs, {saved:,} parameters."
    cheap = [
        row
        for row in rows
        if row.parameters_saved > 0
        and row.adjusted_r2 >= _EXPLAINED
        and isfinite(value)
        and row.loss_change <= _CHEAP * value
    ]
    if not cheap:
        close = [row for row in rows if row.parameters_saved > 0 and row.adjusted_r2 >= _NEARLY_ALL]
        if not close:
            return ""
        best = max(close, key=lambda row: row.adjusted_r2)
        return (
            f"One affine map explains {best.r2:.2%} of what '{best.activation}' hands on"
            + (f", and over 99 % of {len(close) - 1} more layers" if len(close) > 1 else "")
            + "; a fold with a budget tells which of them leave at the price you set."
        )
    best = max(cheap, key=lambda row: row.parameters_saved)
    return (
        f"One affine map can stand in for '{best.activation}': it explains {best.r2:.1%} of what the layer hands on, "
        f"changes R by {best.loss_change:+.2g} and saves {best.parameters_saved:,} parameters (fold with a budget)."
    )


def _listed(rows: Sequence[LayerUse]) -> str:
    """Name some layers."""
    names = ", ".join(f"'{row.activation}'" for row in rows[:5])
    return names + (" and others" if len(rows) > 5 else "")
