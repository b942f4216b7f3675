"""Folds: an activation leaves, and two affine maps become one, exactly or as well as one map can."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn

from liftscape.embedding import Embedding
from liftscape.folding._bounds import interval_bounds
from liftscape.folding._fold_outcome import Fold, FoldRow
from liftscape.folding._linear_bounds import linear_bounds
from liftscape.folding._loss_prediction import predicted_change
from liftscape.folding._methods import FoldMethod, LeastSquares, Proved, as_fold_method
from liftscape.folding._tree import follow, merge, tidied, within_one_block
from liftscape.linearity import (
    Occupancy,
    Run,
    absorbed,
    composition,
    find_runs,
    fit_runs,
    foldable,
    model_and_inputs,
    occupancy_between,
    replace_run,
    runs_occupancy,
)
from liftscape.outcomes import LiftscapeError, SiteError
from liftscape.risk import EmpiricalRisk
from liftscape.sites import AFFINE, change_of_outputs, copy_with

__all__ = ["fold"]

# A piece is an interval and the first map affine, so that what holds on the features holds on their hull.
_ON_DATA = "on all the data, and so on the convex hull of the features that reach the layer"
_IN_BOX = "for every input of the box"


def fold(
    subject: "nn.Module | EmpiricalRisk | Embedding",
    inputs: Any = None,
    at: str | Sequence[str] | None = None,
    *,
    method: FoldMethod | Literal["exact", "least-squares"] = "exact",
) -> Fold:
    """Remove every layer that is exactly linear on S: W ← BΛA, b ← B(Λc + μ) + d; or layers by least squares.

    Exact on S, and so on the convex hull of the features of S that reach the layer. Dead neurons leave into the bias,
    and a BatchNorm with fixed statistics before the activation into the first map.
    Two convolutions become one where borders stay right. By least squares the named layers leave whatever they are, in
    the order of the forward pass, each for the affine map from what reaches it to the next pre-activation that fits
    best after the folds before it: Ŵ, b̂ = argmin Σ‖z − Wh − b‖², with a ridge if one is asked for; of a risk the rows
    say what each does to the loss, to first order and as measured. A proved fold needs no data: bounds of every
    pre-activation over a box of inputs show on which piece each neuron stays.

    Where activations are called as functions the folded network is a graph module, with the parameters' names kept.
    An exact fold is compared with the network on all the data before it is returned, one more pass of both.

    Source: Bai et al. 2022 (arXiv 2205.13283), the reduction that inverts critical lifting; theory 5.

    Args:
        subject: a module, an embedding, or a risk, whose data are used when no inputs are given.
        inputs: S: a tensor, (inputs, targets), or a re-iterable of batches, read once.
        at: names of activations to fold; all that can be when None, which least squares does not allow.
        method: :class:`Exact`, :class:`LeastSquares` with a ridge, or :class:`Proved` on a box of inputs, for which no
            inputs are given; ``"exact"`` and ``"least-squares"`` name the first two with their defaults.

    Returns:
        The folded network; the given one is left as it was.

    Raises:
        LiftscapeError: if no inputs are given for a module, or inputs for a proved fold, there is no such method, or
            least squares has no names.
        SiteError: if a named activation is not between two affine maps, or least squares cannot replace them, or no
            bounds are carried through a module.
        ModelError: if the network is none, on the meta device, or does not run on the inputs.

    Example:
        >>> import torch
        >>> from liftscape.embedding import lift
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> x = torch.randn(10, 2, dtype=torch.float64)
        >>> folded = fold(lift(net, x, "2", activation="elu").model, x)
        >>> folded.removed, bool((folded.model[2].weight - net[2].weight).abs().max() < 1e-12)
        (('2.activation',), True)
    """
    chosen = as_fold_method(method)
    if isinstance(chosen, LeastSquares) and at is None:
        raise LiftscapeError("a fold by least squares replaces the layers that are named; give their names as at.")
    if isinstance(chosen, Proved) and inputs is not None:
        raise LiftscapeError("a proved fold holds on its box and reads no data; leave inputs out.")
    given = subject.model if isinstance(subject, Embedding) else subject
    model, source = model_and_inputs(given, inputs)
    bounded = None
    if isinstance(chosen, Proved):
        like, (low, high) = next(model.parameters()), chosen.box
        bound = linear_bounds if chosen.bounds == "linear" else interval_bounds
        bounded = bound(model, low.to(like.device), high.to(like.device))
        source = ((low + high) / 2)[None].to(like.device, like.dtype)
    if source is None:
        raise LiftscapeError("fold needs the inputs on which layers are linear; give inputs, or a risk.")
    runs = _named_runs(find_runs(model, source), at)
    if isinstance(chosen, LeastSquares):
        risk = subject if isinstance(subject, EmpiricalRisk) else None
        folded, rows = _by_least_squares(*_with_modules(model, runs, runs, source), source, chosen.ridge, risk)
    else:
        held = runs_occupancy(model, runs, source) if bounded is None else _occupied_between(model, runs, bounded)
        linear = [run for run in runs if run.activation in held and held[run.activation].exactly_linear]
        where = _ON_DATA if bounded is None else _IN_BOX
        folded, rows = _exactly(*_with_modules(model, runs, linear, source), held, where)
        folded, rows = _checked(model, folded, rows, source)
    # Where a composition fails at borders, nothing may be left to fold in a graph that was made for it.
    folded = tidied(folded) if any(row.folded for row in rows) else copy_with(model, {})
    count = lambda network: sum(tensor.numel() for tensor in network.parameters())
    return Fold(folded, tuple(row.activation for row in rows if row.folded), rows, count(model), count(folded), model)


def _named_runs(runs: Sequence[Run], at: str | Sequence[str] | None) -> list[Run]:
    """Return the runs of the named activations, or all."""
    wanted = {run.activation for run in runs} if at is None else {at} if isinstance(at, str) else set(at)
    strangers = wanted - {run.activation for run in runs}
    if strangers:
        raise SiteError(
            f"{sorted(strangers)} are not activations between two affine maps that the inputs reach; those are "
            f"{[run.activation for run in runs]}."
        )
    return [run for run in runs if run.activation in wanted]


def _checked(
    model: nn.Module, folded: nn.Module, rows: tuple[FoldRow, ...], source: Any
) -> tuple[nn.Module, tuple[FoldRow, ...]]:
    """Take an exact fold back where outputs change: runs are read off one pass, and another batch may go elsewhere."""
    if not any(row.folded for row in rows):
        return folded, rows
    changed = change_of_outputs(model, folded, source)
    if changed is None:
        return folded, rows
    reason = f"{changed}, so what the network calls depends on them."
    return copy_with(model, {}), tuple(replace(row, folded=False, reason=reason) if row.folded else row for row in rows)


def _with_modules(
    model: nn.Module, runs: list[Run], leaving: Sequence[Run], source: Any
) -> tuple[nn.Module, list[Run]]:
    """Return a network in which what is to leave is a module, the model itself where that is so, and the same runs."""
    if not any(run.is_call for run in leaving):
        return model, runs
    network, found = foldable(model, source)
    named = {run.activation: run for run in found}
    # What is refused in the network itself stays so, though its graph may lack what stood in the way.
    return network, [named[run.activation] if run.refusal is None else run for run in runs]


def _occupied_between(
    model: nn.Module, runs: Sequence[Run], bounds: dict[str, tuple[Tensor, Tensor]]
) -> dict[str, Occupancy]:
    """Return which pieces hold all that lies between bounds."""
    free = [run.activation for run in runs if run.refusal is None]
    return {
        name: occupancy_between(name, model.get_submodule(name), *(end.cpu() for end in bounds[name])) for name in free
    }


def _exactly(
    model: nn.Module, runs: Sequence[Run], occupancies: dict[str, Occupancy], where: str
) -> tuple[nn.Module, tuple[FoldRow, ...]]:
    """Fold the runs whose activations are linear."""
    rows = [_row(run, None if run.refusal else occupancies.get(run.activation), where) for run in runs]
    folded = copy_with(model, {})
    # A map that was folded lives on under the name of the run's last map, or of the block that held the whole run.
    home: dict[str, str] = {}
    pending = [place for place, row in enumerate(rows) if row.folded]
    while pending:
        # A run within one block goes first, so that an inserted block closes before its surroundings reach into it.
        place = min(pending, key=lambda place: not within_one_block(_live(home, rows[place])))
        pending.remove(place)
        names, own = _live(home, rows[place]), occupancies[rows[place].activation]
        first, last = folded.get_submodule(names[0]), folded.get_submodule(names[2])
        assert isinstance(first, AFFINE)
        assert isinstance(last, AFFINE)
        norm = runs[place].norm
        first = first if norm is None else absorbed(first, folded.get_submodule(norm))
        merged = composition(first, last, own.slope, own.intercept)
        if isinstance(merged, str):
            rows[place] = replace(rows[place], folded=False, reason=f"{merged}.")
            continue
        folded, now = merge(folded, names, norm, merged)
        home |= {names[0]: now, names[2]: now}
    return folded, tuple(rows)


def _by_least_squares(
    model: nn.Module, runs: Sequence[Run], source: Any, ridge: float, risk: EmpiricalRisk | None
) -> tuple[nn.Module, tuple[FoldRow, ...]]:
    """Fold all runs, each after those before it."""
    folded, rows = copy_with(model, {}), []
    for run in runs:
        # A fold before may have replaced the run's first map, but never moved its activation.
        now = next((each for each in find_runs(folded, source) if each.activation == run.activation), run)
        fit = fit_runs(folded, [now], source, ridge).get(run.activation) if now.refusal is None else None
        if fit is None:
            raise SiteError(
                f"activation '{run.activation}' cannot leave by least squares: {now.refusal or 'no one map fits'}."
            )
        own = _row(run, runs_occupancy(folded, [now], source)[run.activation])
        row = replace(own, folded=True, reason=fit.explanation(), r2=fit.r2, adjusted_r2=fit.adjusted_r2)
        shorter = replace_run(folded, now, fit)
        rows.append(row if risk is None else _with_changes(row, risk.with_model(folded), now, shorter))
        folded = shorter
    return folded, tuple(rows)


def _with_changes(row: FoldRow, risk: EmpiricalRisk, run: Run, shorter: nn.Module) -> FoldRow:
    """Say what a fold by least squares does to the loss."""
    predicted = predicted_change(risk, run, shorter.get_submodule(run.last))
    measured = float(risk.with_model(shorter).value()) - float(risk.value())
    return replace(row, predicted=predicted, measured=measured)


def _row(run: Run, occupancy: Occupancy | None, where: str = _ON_DATA) -> FoldRow:
    """Decide on one run."""
    if occupancy is None:
        return FoldRow(run.activation, run.first, run.last, False, 0, 0, 0, f"{run.refusal}.")
    neurons, linear = len(occupancy.piece), int((occupancy.piece >= 0).sum())
    dead = int((occupancy.slope == 0).sum())
    reason = (
        f"every neuron stays on one affine piece {where}."
        if occupancy.exactly_linear
        else f"{neurons - linear} of {neurons} neurons are on no single affine piece."
    )
    return FoldRow(run.activation, run.first, run.last, occupancy.exactly_linear, neurons, linear, dead, reason)


def _live(home: dict[str, str], row: FoldRow) -> tuple[str, str, str]:
    """Return the present names of a run's maps, around its activation's."""
    return follow(home, row.first), row.activation, follow(home, row.last)
