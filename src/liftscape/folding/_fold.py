"""Folds: an activation leaves, and two affine maps become one, exactly or as well as one map can."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn

from liftscape.embedding import Embedding
from liftscape.folding._bounds import interval_bounds
from liftscape.folding._exact import ON_DATA, chosen_runs, finished, fold_exactly, row_of, taken_back
from liftscape.folding._fold_outcome import Fold, FoldRow
from liftscape.folding._linear_bounds import linear_bounds
from liftscape.folding._loss_prediction import predicted_change
from liftscape.folding._methods import FoldMethod, LeastSquares, Proved, as_fold_method
from liftscape.forward import Head, copy_with, head_of, stream
from liftscape.linearity import (
    Occupancy,
    Run,
    RunFits,
    find_runs,
    foldable,
    model_and_inputs,
    occupancy_between,
    occupancy_of_runs,
    replace_run,
    run_pieces,
    runs_occupancy,
)
from liftscape.outcomes import LiftscapeError, SiteError
from liftscape.risk import EmpiricalRisk, values_of
from liftscape.sites import change_of_outputs

__all__ = ["fold"]

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
        low, high = chosen.box
        like = next(model.parameters(), low)
        bound = linear_bounds if chosen.bounds == "linear" else interval_bounds
        bounded = bound(model, low.to(like.device), high.to(like.device))
        source = ((low + high) / 2)[None].to(like.device, like.dtype)
    if source is None:
        raise LiftscapeError("fold needs the inputs on which layers are linear; give inputs, or a risk.")
    head = head_of(source)
    runs = chosen_runs(find_runs(model, head), at)
    if isinstance(chosen, LeastSquares):
        risk = subject if isinstance(subject, EmpiricalRisk) else None
        folded, rows = _by_least_squares(*_with_modules(model, runs, runs, head), source, head, chosen.ridge, risk)
    else:
        held = runs_occupancy(model, runs, source) if bounded is None else _occupied_between(model, runs, bounded)
        linear = [run for run in runs if run.activation in held and held[run.activation].exactly_linear]
        where = ON_DATA if bounded is None else _IN_BOX
        folded, rows = fold_exactly(*_with_modules(model, runs, linear, head), held, where)
        if any(row.folded for row in rows):
            folded, rows = taken_back(model, folded, rows, change_of_outputs(model, folded, source))
    return finished(model, folded, rows)


def _with_modules(model: nn.Module, runs: list[Run], leaving: Sequence[Run], head: Head) -> tuple[nn.Module, list[Run]]:
    """Return a network in which what is to leave is a module, the model itself where that is so, and the same runs."""
    if not any(run.is_call for run in leaving):
        return model, runs
    network, found = foldable(model, head)
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


def _by_least_squares(
    model: nn.Module, runs: Sequence[Run], source: Any, head: Head, ridge: float, risk: EmpiricalRisk | None
) -> tuple[nn.Module, tuple[FoldRow, ...]]:
    """Fold all runs, each after those before it."""
    folded, rows = copy_with(model, {}), []
    for run in runs:
        # A fold before may have replaced the run's first map, but never moved its activation.
        now = next((each for each in find_runs(folded, head) if each.activation == run.activation), run)
        pieces, fits = run_pieces(folded, [now]), RunFits.of(folded, [now], ridge)
        if pieces is None or not fits.maps:
            raise SiteError(
                f"activation '{run.activation}' cannot leave by least squares: {now.refusal or 'no one map fits'}."
            )
        moments, fitted = stream(folded, source, [pieces, fits])
        fit = fitted[run.activation]
        own = row_of(run, occupancy_of_runs(folded, [now], moments)[run.activation])
        row = replace(own, folded=True, reason=fit.explanation(), r2=fit.r2, adjusted_r2=fit.adjusted_r2)
        shorter = replace_run(folded, now, fit)
        rows.append(row if risk is None else _with_changes(row, risk.derived(folded), now, shorter))
        folded = shorter
    return folded, tuple(rows)


def _with_changes(row: FoldRow, risk: EmpiricalRisk, run: Run, shorter: nn.Module) -> FoldRow:
    """Say what a fold by least squares does to the loss."""
    predicted = predicted_change(risk, run, shorter.get_submodule(run.last))
    after, before = (float(value) for value in values_of(risk, [shorter, risk.model]))
    measured = after - before
    return replace(row, predicted=predicted, measured=measured)
