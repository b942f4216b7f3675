"""Exact folds: each activation whose neurons stay on one affine piece leaves between two maps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from liftscape.folding._fold_outcome import Fold, FoldRow
from liftscape.folding._tree import follow, merge, tidied, within_one_block
from liftscape.forward import AFFINE, copy_with
from liftscape.linearity import Moments, Occupancy, Run, absorbed, composition, occupancy_of_runs
from liftscape.outcomes import SiteError
from liftscape.sites import change_of_outputs

__all__ = ["ON_DATA", "chosen_runs", "finished", "fold_exactly", "fold_measured", "row_of", "taken_back"]

# A piece is an interval and the first map affine, so that what holds on the features holds on their hull.
ON_DATA = "on all the data, and so on the convex hull of the features that reach the layer"


def chosen_runs(runs: Sequence[Run], at: str | Sequence[str] | None) -> list[Run]:
    """Return the runs of named activations, all of them when None.

    Args:
        runs: of a network.
        at: names of activations.

    Returns:
        The runs in the order of the forward pass.

    Raises:
        SiteError: if a named one is not between two affine maps.
    """
    wanted = {run.activation for run in runs} if at is None else {at} if isinstance(at, str) else set(at)
    strangers = wanted - {run.activation for run in runs}
    if strangers:
        raise SiteError(
            f"{sorted(strangers)} are not activations between two affine maps that the inputs reach; those are "
            f"{[run.activation for run in runs]}."
        )
    return [run for run in runs if run.activation in wanted]


def fold_exactly(
    model: nn.Module, runs: Sequence[Run], occupancies: Mapping[str, Occupancy], where: str = ON_DATA
) -> tuple[nn.Module, tuple[FoldRow, ...]]:
    """Fold the runs whose activations are linear.

    Args:
        model: any module, whose activations are modules in the runs that leave; it is left as it was.
        runs: of that module.
        occupancies: which pieces hold their neurons, by the activation's name.
        where: on what they do.

    Returns:
        The network, its blocks not tidied yet, and what became of each activation.
    """
    rows = [row_of(run, None if run.refusal else occupancies.get(run.activation), where) for run in runs]
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


def taken_back(
    model: nn.Module, folded: nn.Module, rows: tuple[FoldRow, ...], changed: str | None
) -> tuple[nn.Module, tuple[FoldRow, ...]]:
    """Take an exact fold back where outputs change: runs are read off one pass, and another batch may go elsewhere.

    Args:
        model: as it was.
        folded: as it is.
        rows: what became of each activation.
        changed: how outputs on the data change, None where they do not.

    Returns:
        The network and the rows.
    """
    if changed is None:
        return folded, rows
    reason = f"{changed}, so what the network calls depends on them."
    return copy_with(model, {}), tuple(replace(row, folded=False, reason=reason) if row.folded else row for row in rows)


def finished(model: nn.Module, folded: nn.Module, rows: tuple[FoldRow, ...]) -> Fold:
    """Return a fold with what is left of its blocks tidied.

    Args:
        model: as it was.
        folded: as it is.
        rows: what became of each activation.

    Returns:
        The fold.
    """
    # Where a composition fails at borders, nothing may be left to fold in a graph that was made for it.
    folded = tidied(folded) if any(row.folded for row in rows) else copy_with(model, {})
    count = lambda network: sum(tensor.numel() for tensor in network.parameters())
    return Fold(folded, tuple(row.activation for row in rows if row.folded), rows, count(model), count(folded), model)


def fold_measured(model: nn.Module, runs: Sequence[Run], moments: Moments, inputs: Any) -> Fold:
    """Fold whatever is exactly linear by what one pass over the data has told already.

    Args:
        model: any module, whose activations in these runs are modules; it is left as it was.
        runs: of that module.
        moments: of its activations on the data.
        inputs: the data, read once more where something folds, to compare outputs.

    Returns:
        The fold.
    """
    folded, rows = fold_exactly(model, runs, occupancy_of_runs(model, runs, moments))
    if any(row.folded for row in rows):
        folded, rows = taken_back(model, folded, rows, change_of_outputs(model, folded, inputs))
    return finished(model, folded, rows)


def row_of(run: Run, occupancy: Occupancy | None, where: str = ON_DATA) -> FoldRow:
    """Decide on one run.

    Args:
        run: of the network.
        occupancy: which pieces hold its neurons; None for one that is refused.
        where: on what they do.

    Returns:
        The row.
    """
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
