"""The exact fold: an activation that is linear on all samples leaves, and two affine maps become one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from liftscape.embedding import Embedding
from liftscape.linearity import Occupancy, Run, find_runs, model_and_inputs, piece_occupancy
from liftscape.outcomes import LiftscapeError, Outcome, SiteError
from liftscape.risk import EmpiricalRisk
from liftscape.sites import copy_with

__all__ = ["Fold", "FoldRow", "fold"]


@dataclass(frozen=True)
class FoldRow(Outcome):
    """What became of one activation.

    Attributes:
        activation: its name.
        first: the affine map before it.
        last: the affine map after it.
        folded: whether it was removed.
        neurons: its neurons.
        linear: neurons that one affine piece holds on all samples.
        dead: those among them on a piece with λ = 0.
        reason: one sentence.
    """

    activation: str
    first: str
    last: str
    folded: bool
    neurons: int
    linear: int
    dead: int
    reason: str


@dataclass(frozen=True)
class Fold(Outcome):
    """A network with fewer layers and the same outputs on the data.

    Attributes:
        model: the folded network, new.
        removed: names of the activations that left.
        report: one row for each activation between two affine maps.
        parameters_before: trainable parameters of the given network.
        parameters_after: trainable parameters of the folded one.
    """

    model: nn.Module
    removed: tuple[str, ...]
    report: tuple[FoldRow, ...]
    parameters_before: int
    parameters_after: int


def fold(
    model_or_risk: "nn.Module | EmpiricalRisk | Embedding",
    inputs: Any = None,
    at: str | Sequence[str] | None = None,
    how: Literal["exact"] = "exact",
) -> Fold:
    """Remove every layer that is exactly linear on S: W ← BΛA, b ← B(Λc + μ) + d.

    Exact on S, and so on the convex hull of the features of S that reach the layer. Dead neurons leave into the bias.

    Source: Bai et al. 2022 (arXiv 2205.13283), the reduction that inverts critical lifting; theory 5.

    Args:
        model_or_risk: a module, an embedding, or a risk, whose data are used when no inputs are given.
        inputs: S: a tensor, (inputs, targets), or a re-iterable of batches, read once.
        at: names of activations to fold; all that can be when None.
        how: ``"exact"``.

    Returns:
        The folded network; the given one is left as it was.

    Raises:
        LiftscapeError: if no inputs are given for a module, or another kind of fold is asked for.
        SiteError: if a named activation is not between two affine maps.

    Example:
        >>> import torch
        >>> from liftscape.embedding import lift
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> x = torch.randn(10, 2, dtype=torch.float64)
        >>> folded = fold(lift(net, at="2", inputs=x, activation="elu").model, x)
        >>> folded.removed, bool((folded.model[2].weight - net[2].weight).abs().max() < 1e-12)
        (('2.activation',), True)
    """
    if how != "exact":
        raise LiftscapeError(f"how must be 'exact', but {how!r} was given; other folds are not built yet.")
    given = model_or_risk.model if isinstance(model_or_risk, Embedding) else model_or_risk
    model, source = model_and_inputs(given, inputs)
    if source is None:
        raise LiftscapeError("fold needs the inputs on which layers are linear; give inputs, or a risk.")
    runs = find_runs(model, source)
    wanted = {run.activation for run in runs} if at is None else {at} if isinstance(at, str) else set(at)
    strangers = wanted - {run.activation for run in runs}
    if strangers:
        raise SiteError(
            f"{sorted(strangers)} are not activations between two Linear maps; those are "
            f"{[run.activation for run in runs]}."
        )
    open_runs = [run.activation for run in runs if run.refusal is None and run.activation in wanted]
    dtype = next(model.parameters()).dtype
    occupancies = {own.name: own for own in piece_occupancy(model, source, open_runs, dtype)} if open_runs else {}
    rows = tuple(_row(run, occupancies.get(run.activation)) for run in runs if run.activation in wanted)

    folded = copy_with(model, {})
    # A map that was folded lives on under the name of the run's last map, or of the block that held the whole run.
    home: dict[str, str] = {}
    pending = [row for row in rows if row.folded]
    while pending:
        # A run within one block goes first, so that an inserted block closes before its surroundings reach into it.
        row = min(pending, key=lambda row: not _within_one_block(_live(home, row)))
        pending.remove(row)
        names = _live(home, row)
        folded, now = _merge(folded, *names, occupancies[row.activation])
        home |= {names[0]: now, names[2]: now}
    count = lambda network: sum(tensor.numel() for tensor in network.parameters() if tensor.requires_grad)
    return Fold(folded, tuple(row.activation for row in rows if row.folded), rows, count(model), count(folded))


def _row(run: Run, occupancy: Occupancy | None) -> FoldRow:
    """Decide on one run."""
    if occupancy is None:
        return FoldRow(run.activation, run.first, run.last, False, 0, 0, 0, f"{run.refusal}.")
    neurons, linear = len(occupancy.piece), int((occupancy.piece >= 0).sum())
    dead = int((occupancy.slope == 0).sum())
    reason = (
        "every neuron stays on one affine piece on all samples."
        if occupancy.exactly_linear
        else f"{neurons - linear} of {neurons} neurons are on no single affine piece."
    )
    return FoldRow(run.activation, run.first, run.last, occupancy.exactly_linear, neurons, linear, dead, reason)


def _merge(model: nn.Module, first: str, activation: str, last: str, occupancy: Occupancy) -> tuple[nn.Module, str]:
    """Return the model with the run replaced by one map, and that map's name."""
    A, B = model.get_submodule(first), model.get_submodule(last)
    assert isinstance(A, nn.Linear)
    assert isinstance(B, nn.Linear)
    merged = _merged(A, B, occupancy)
    (parent, _, child), keys = last.rpartition("."), {name.rpartition(".")[2] for name in (first, activation, last)}
    block = model.get_submodule(parent)
    if _within_one_block((first, activation, last)) and type(block) is nn.Sequential:
        if set(block._modules) == keys and parent:
            return copy_with(model, {parent: merged}), parent
        for key in keys:
            # Keys of the other modules stay, so that saved weights still fit.
            block._modules.pop(key) if key != child else block._modules.update({key: merged})
        return model, last
    return copy_with(model, {first: nn.Identity(), activation: nn.Identity(), last: merged}), last


def _merged(A: nn.Linear, B: nn.Linear, occupancy: Occupancy) -> nn.Linear:
    """Return BΛA and B(Λc + μ) + d as one Linear, computed in float64."""
    slope, intercept = occupancy.slope.to(A.weight.device), occupancy.intercept.to(A.weight.device)
    W1, W2 = A.weight.detach().double(), B.weight.detach().double()
    constant = intercept if A.bias is None else slope * A.bias.detach().double() + intercept
    bias = W2 @ constant + (0 if B.bias is None else B.bias.detach().double())
    keeps_bias = A.bias is not None or B.bias is not None or bool(intercept.any())
    merged = nn.Linear(A.in_features, B.out_features, bias=keeps_bias, device="meta")
    merged.weight = nn.Parameter((W2 @ (slope[:, None] * W1)).to(A.weight.dtype))
    if keeps_bias:
        merged.bias = nn.Parameter(bias.to(A.weight.dtype))
    return merged


def _live(home: dict[str, str], row: FoldRow) -> tuple[str, str, str]:
    """Return the present names of a run's maps, around its activation's."""
    return _follow(home, row.first), row.activation, _follow(home, row.last)


def _within_one_block(names: tuple[str, str, str]) -> bool:
    """Tell whether three modules have one parent."""
    return len({name.rpartition(".")[0] for name in names}) == 1


def _follow(home: dict[str, str], name: str) -> str:
    """Return where a map lives now."""
    while name in home and home[name] != name:
        name = home[name]
    return name
