"""A search over folds: the layer that costs least for each operation saved leaves next, within a budget."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, isnan, nan
from typing import Any

import torch
from torch import nn

from liftscape.folding._exact import chosen_runs, finished, fold_exactly, taken_back
from liftscape.folding._operation_count import operations
from liftscape.forward import Head, copy_with, head_of
from liftscape.linearity import INTERPOLATES, AffineFit, Run, find_runs, fit_runs, foldable, replace_run, runs_occupancy
from liftscape.outcomes import DataError, LiftscapeError, Outcome, TableOutcome
from liftscape.risk import EmpiricalRisk, require_risk, values_of
from liftscape.sites import changes_of_outputs, output_gap

__all__ = ["FoldSearch", "FoldStep", "fold_within"]

Progress = Callable[[int, int], None]
# Network, the layer that left, how, R², adjusted R², the loss where it is known.
_Round = tuple[nn.Module, str, str, float, float, float | None]
# An exact fold changes the loss by rounding, so many eps of it at most.
_ROUNDING = 100
# Outputs that differ by a smaller share are the same but for rounding.
_SAME = 1e-10


@dataclass(frozen=True)
class FoldStep(Outcome):
    """One network on the way.

    Attributes:
        activation: the layer that left last; "" for the network as given.
        how: "exact", "least-squares", or "" for the network as given.
        r2: of the map in its place.
        adjusted_r2: R² corrected for the map's inputs; NaN also where there are no more samples than these.
        loss: on the calibration data.
        held_out: loss or accuracy, as the budget counts it, on held-out data where there are some, else on the same.
        parameters: left.
        operations: multiplications for one sample.
        within: whether the budget is met, but for rounding.
    """

    activation: str
    how: str
    r2: float
    adjusted_r2: float
    loss: float
    held_out: float
    parameters: int
    operations: int
    within: bool


@dataclass(frozen=True)
class FoldSearch(TableOutcome):
    """The smallest network within a budget, and all those on the way.

    Attributes:
        model: the network, new.
        removed: the layers that left, in that order.
        steps: from the network as given to the smallest; loss against operations is the trade-off.
        by: what the budget is of.
        budget: as it was given.
        reason: one sentence.
        base: the network of the risk, as given.
    """

    _rows = "steps"

    model: nn.Module
    removed: tuple[str, ...]
    steps: tuple[FoldStep, ...]
    by: str
    budget: float
    reason: str
    base: nn.Module = field(repr=False)


def fold_within(
    risk: EmpiricalRisk,
    *,
    budget: float,
    by: str = "loss",
    held_out: Any = None,
    at: str | Sequence[str] | None = None,
    ridge: float = 0.0,
    progress: Progress | None = None,
) -> FoldSearch:
    """Fold layers until a budget is met: first those that are exactly linear, then by least squares.

    Each round fits the best affine map to every layer left in one pass, and folds the one with the smallest change of
    the loss for each operation saved. All rounds are taken; of their networks the smallest within the budget is
    returned.

    Source: derived (theory 5); no statement of the paper.

    Args:
        risk: of the network on calibration data.
        budget: for "loss" the relative rise that is allowed, for "accuracy" the share of samples that may be lost.
        by: what is counted, "loss" or "accuracy".
        held_out: (inputs, targets) or a re-iterable of such, on which the budget is checked; the calibration data when
            None.
        at: activations that may leave; all that can when None.
        ridge: as for :func:`fold`, of every fold by least squares.
        progress: called with (layers done, layers in all).

    Returns:
        The network and the way to it; the given one is left as it was.

    Raises:
        LiftscapeError: if there is no risk, the budget is negative or not finite, by is unknown, or the loss is not
            finite.
        DataError: if accuracy is asked for where targets are no classes.

    Example:
        >>> x = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
        >>> net = nn.Sequential(nn.Linear(1, 4), nn.LeakyReLU(0.9), nn.Linear(4, 1)).double()
        >>> fold_within(EmpiricalRisk(net, "mse", (x, x)), budget=0.5).removed
        ('1',)
    """
    require_risk(risk, "fold_within")
    number = isinstance(budget, (int, float)) and not isinstance(budget, bool)
    if not number or not 0 <= budget < inf or by not in {"loss", "accuracy"}:
        raise LiftscapeError(
            f"budget must be a number of at least 0 of 'loss' or 'accuracy', but {budget!r} of {by!r} was given."
        )
    wanted = [at] if isinstance(at, str) else at
    judge = risk if held_out is None else EmpiricalRisk(risk.model, risk.loss, held_out)
    start = _value(judge, by)
    if not isfinite(start):
        raise LiftscapeError(f"the {by} of the network as given is {start}, so no budget can be kept.")
    rounding = _ROUNDING * torch.finfo(risk.flatten().dtype).eps
    bound = start + (budget + rounding) * abs(start) if by == "loss" else start - budget - rounding
    steps: list[FoldStep] = []
    best, chosen = risk.model, 0
    head = head_of(risk.batches)
    network, runs = foldable(risk.model, head)
    for model, name, how, r2, adjusted, known in _way(risk.derived(network), runs, head, wanted, ridge):
        loss = float(risk.derived(model).value()) if known is None else known
        value = loss if judge is risk and by == "loss" else _value(judge.derived(model), by)
        size = sum(parameter.numel() for parameter in model.parameters())
        within = value <= bound if by == "loss" else value >= bound
        if how == "exact" and not within:
            # Where the loss is small its rounding, that of the outputs beside the residual, is not.
            gap, scale = output_gap(network, model, judge.batches)
            within = gap <= _SAME * scale
        steps.append(FoldStep(name, how, r2, adjusted, loss, value, size, operations(model, head), within))
        if within and steps[-1].operations < steps[chosen].operations:
            best, chosen = model, len(steps) - 1
        if progress is not None:
            progress(len(steps) - 1, max(len(runs), len(steps) - 1))
    removed = tuple(each.activation for each in steps[1 : chosen + 1])
    reason = (
        f"{len(removed)} of {len(steps) - 1} layers leave within the budget."
        if removed or len(steps) == 1
        else f"No fold meets the budget: {by} {bound:.6g} was asked for, the nearest gives {_nearest(steps, by):.6g}."
    )
    few = [each.activation for each in steps[1 : chosen + 1] if isnan(each.adjusted_r2) and not isnan(each.r2)]
    if few and held_out is None:
        reason += f" Check the map in place of '{few[0]}' on held-out data: {INTERPOLATES}."
    folded = best if removed else copy_with(risk.model, {})
    return FoldSearch(folded, removed, tuple(steps), by, budget, reason, risk.model)


def _way(
    risk: EmpiricalRisk, runs: Sequence[Run], head: Head, at: Sequence[str] | None, ridge: float
) -> Iterator[_Round]:
    """Yield the network as given, then with one layer less each time, and how well the map in its place fits."""
    model = risk.model
    yield model, "", "", nan, nan, None
    for name, model in _exact_folds(risk, chosen_runs(runs, at)):
        yield model, name, "exact", 1.0, 1.0, None
    while (found := _cheapest(risk.derived(model), head, at, ridge)) is not None:
        name, fit, model, loss = found
        yield model, name, "least-squares", fit.r2, fit.adjusted_r2, loss


def _exact_folds(risk: EmpiricalRisk, runs: Sequence[Run]) -> list[tuple[str, nn.Module]]:
    """Return the networks in which one more layer each folds exactly, by the layer that leaves last."""
    model = risk.model
    held = runs_occupancy(model, runs, risk.batches)
    names = [row.activation for row in fold_exactly(model, runs, held)[1] if row.folded]
    steps = [
        fold_exactly(model, [run for run in runs if run.activation in names[: count + 1]], held)
        for count in range(len(names))
    ]
    if not steps:
        return []
    changed = changes_of_outputs(model, [folded for folded, _ in steps], risk.batches)
    if changed[-1] is not None:
        return []
    folds = [finished(model, *taken_back(model, *step, change)) for step, change in zip(steps, changed, strict=True)]
    return list(zip(names, (each.model for each in folds), strict=True))


def _value(risk: EmpiricalRisk, by: str) -> float:
    """Return what the budget counts: the loss, or the share of samples whose class has the largest output."""
    if by == "loss":
        return float(risk.value())
    right = count = 0
    with torch.no_grad():
        for output, (_, targets) in zip(risk.outputs(), risk.batches, strict=True):
            if targets.is_floating_point() or output.ndim != 2 or targets.shape != output.shape[:1]:
                raise DataError(
                    f"accuracy needs outputs (n, classes) and class indices (n,), but outputs of shape "
                    f"{tuple(output.shape)} and {targets.dtype} targets of shape {tuple(targets.shape)} were given."
                )
            right += int((output.argmax(dim=1) == targets).sum())
            count += len(targets)
    return right / count


def _cheapest(
    risk: EmpiricalRisk, head: Head, at: Sequence[str] | None, ridge: float
) -> tuple[str, AffineFit, nn.Module, float] | None:
    """Return the fold with the smallest change of the loss for each operation saved, None where none saves any."""
    model = risk.model
    runs = {
        run.activation: run
        for run in find_runs(model, head)
        if run.refusal is None and (at is None or run.activation in at)
    }
    if not runs:
        return None
    fits = fit_runs(model, list(runs.values()), risk.batches, ridge)
    before = operations(model, head)
    networks = {name: replace_run(model, runs[name], fit, share=True) for name, fit in fits.items()}
    saved = {name: before - operations(network, head) for name, network in networks.items()}
    wanted = [name for name in networks if saved[name] > 0]
    if not wanted:
        return None
    base, *losses = (float(value) for value in values_of(risk, [model, *(networks[name] for name in wanted)]))
    costs = [(loss - base) / saved[name] for name, loss in zip(wanted, losses, strict=True)]
    # The first of the cheapest, and of costs that are no numbers the first of all.
    place = 0
    for other, cost in enumerate(costs):
        if cost < costs[place]:
            place = other
    name = wanted[place]
    return name, fits[name], replace_run(model, runs[name], fits[name]), losses[place]


def _nearest(steps: Sequence[FoldStep], by: str) -> float:
    """Return the value of the fold that comes nearest to the budget."""
    values = [each.held_out for each in steps[1:]]
    return min(values) if by == "loss" else max(values)
