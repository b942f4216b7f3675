"""Residual blocks whose branch is affine collapse into one map."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from liftscape.folding._fold import fold
from liftscape.folding._graph_modules import graph_of
from liftscape.folding._neighbours import joined_neighbours
from liftscape.folding._operation_count import operations
from liftscape.folding._sum_graph import collapse_sums, has_sums
from liftscape.linearity import model_and_inputs
from liftscape.outcomes import LiftscapeError, Outcome, TableOutcome
from liftscape.risk import EmpiricalRisk
from liftscape.sites import AFFINE, copy_with, first_batch, output_gap

__all__ = ["Collapse", "CollapseRow", "collapse_residuals"]

# Sums of a fold in other orders lose so many units of rounding at most; more is another function.
_ROUNDING = 1e3


@dataclass(frozen=True)
class CollapseRow(Outcome):
    """What became of one sum of branches.

    Attributes:
        block: the module in whose forward it stands; "" for the network itself.
        modules: the modules on its branches, by their names in the block.
        collapsed: whether one map took their place.
        reason: one sentence.
    """

    block: str
    modules: tuple[str, ...]
    collapsed: bool
    reason: str


@dataclass(frozen=True)
class Collapse(TableOutcome):
    """A network with fewer layers and branches and the same outputs on the data.

    Attributes:
        model: the network, new.
        removed: names of the activations that left.
        collapsed: names of the blocks in which a sum became one map.
        joined: pairs of maps, one of them all that was left of a block, that became one in a Sequential.
        report: one row for each sum of branches that read one tensor and are affine but for what a row says.
        parameters_before: of the given network.
        parameters_after: of the new one.
        operations_before: multiplications for one sample.
        operations_after: the same.
        base: the network that was collapsed, as given.
    """

    _rows = "report"

    model: nn.Module
    removed: tuple[str, ...]
    collapsed: tuple[str, ...]
    joined: tuple[tuple[str, str], ...]
    report: tuple[CollapseRow, ...]
    parameters_before: int
    parameters_after: int
    operations_before: int
    operations_after: int
    base: nn.Module = field(repr=False)


def collapse_residuals(subject: "nn.Module | EmpiricalRisk", inputs: Any = None) -> Collapse:
    """Fold what is linear on S, then put one map in the place of every sum of affine branches: x + Wx = (I + W)x.

    A branch is a row of affine maps and BatchNorms with fixed statistics; the other may be the identity, or a shortcut
    of its own. Of convolutions the identity is a one at the middle of the kernel, which needs stride 1, an odd kernel
    and padding that keeps the size; a shortcut of 1 × 1 goes into the middle of the kernel in the same way. A map that
    is all that is left of a block joins the map before or behind it in a Sequential, where that takes fewer operations.
    What is left may be linear in turn, so all of this is repeated until nothing changes.

    The sum is found in the forward of each module, which torch.fx traces; a block of which more than the map is left
    becomes a graph module, whose other children keep their names.

    Source: theory 5; the kernel of the identity as in RepVGG (Ding et al. 2021, arXiv 2101.03697).

    Args:
        subject: a module, or a risk, whose data are used when no inputs are given.
        inputs: S: a tensor, (inputs, targets), or a re-iterable of batches.

    Returns:
        The network; the given one is left as it was.

    Raises:
        LiftscapeError: if no inputs are given for a module.
        ModelError: if the network is none, on the meta device, or does not run on the inputs.

    Example:
        >>> import torch
        >>> class Block(nn.Module):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.map = nn.Linear(2, 2)
        ...
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         return x + self.map(x)
        >>> found = collapse_residuals(nn.Sequential(Block(), nn.ReLU()), torch.randn(9, 2))
        >>> found.collapsed, found.model[0]
        (('0',), Linear(in_features=2, out_features=2, bias=True))
    """
    model, source = model_and_inputs(subject, inputs)
    if source is None:
        raise LiftscapeError("collapse_residuals needs the inputs on which layers are linear; give inputs, or a risk.")
    removed, joined = list[str](), list[tuple[str, str]]()
    done: list[CollapseRow] = []
    current, stayed = model, tuple[CollapseRow, ...]()
    while True:
        folded = fold(current, source)
        removed += folded.removed
        current, rows = _collapsed(folded.model, source)
        done += [row for row in rows if row.collapsed]
        stayed = tuple(row for row in rows if not row.collapsed)
        if not any(row.collapsed for row in rows):
            break
        left = {row.block for row in done if row.block in dict(current.named_modules())}
        fresh = {name for name in left if isinstance(current.get_submodule(name), AFFINE)}
        current, pairs = joined_neighbours(current, fresh, _shared(current), lambda a, b: _pays(a, b, source))
        joined += pairs
    count = lambda network: sum(parameter.numel() for parameter in network.parameters())
    sizes = count(model), count(current)
    names = tuple(dict.fromkeys(row.block for row in done))
    effort = operations(model, source), operations(current, source)
    return Collapse(current, tuple(removed), names, tuple(joined), (*done, *stayed), *sizes, *effort, model)


def _collapsed(model: nn.Module, source: Any) -> tuple[nn.Module, tuple[CollapseRow, ...]]:
    """Collapse the sums in each module's own forward, the innermost first."""
    rows: list[CollapseRow] = []
    # The innermost first: what they become may be the branch of an outer one.
    names = sorted((name for name, module in model.named_modules() if _is_block(module)), key=_depth, reverse=True)
    for name in names:
        try:
            graph = graph_of(model.get_submodule(name))
        except Exception as error:  # What tracing raises is of many kinds, none of them public.
            detail = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
            rows.append(CollapseRow(name, (), False, f"its forward cannot be traced: {detail}."))
            continue
        if not has_sums(graph):
            continue
        copied = copy_with(model, {})
        block = copied.get_submodule(name)
        made, sums = collapse_sums(block, graph, _shared(copied))
        reason = None
        if made is not block:
            changed = _with(copied, name, made)
            reason = _difference(model, changed, source)
            model = model if reason else changed
        for each in sums:
            text = each.reason or reason or f"one map took the place of {len(each.modules)} modules and a sum."
            rows.append(CollapseRow(name, each.modules, bool(each.made) and reason is None, text))
    return model, tuple(rows)


def _with(model: nn.Module, name: str, made: nn.Module) -> nn.Module:
    """Return the model with a block replaced, whose modules keep their modes."""
    modes = [(module, module.training) for module in made.modules()]
    changed = copy_with(model, {name: made})
    for module, training in modes:
        module.training = training
    return changed


def _difference(model: nn.Module, changed: nn.Module, source: Any) -> str | None:
    """Say why two networks are not the same on the first batch, if they are not."""
    gap, scale = output_gap(model, changed, [first_batch(source)])
    eps = torch.finfo(next(model.parameters()).dtype).eps
    if gap <= _ROUNDING * eps * max(scale, eps):
        return None
    return f"one map would change the outputs by {gap:.1e}, so the block does more than its modules say."


def _pays(model: nn.Module, changed: nn.Module, source: Any) -> bool:
    """Tell whether a network takes fewer operations than another that computes the same."""
    return operations(changed, source) < operations(model, source) and _difference(model, changed, source) is None


def _shared(model: nn.Module) -> set[int]:
    """Return the identities of parameters that stand in several places."""
    places = Counter(
        id(parameter)
        for _, module in model.named_modules(remove_duplicate=False)
        for parameter in module._parameters.values()
        if parameter is not None
    )
    return {parameter for parameter, count in places.items() if count > 1}


def _is_block(module: nn.Module) -> bool:
    """Tell modules whose forward may hold a sum of branches."""
    composite = next(module.children(), None) is not None
    # A graph module keeps the children of a module that it calls no more in plain containers.
    return composite and type(module) not in {nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict}


def _depth(name: str) -> int:
    """Return how deep a module lies."""
    return name.count(".") + bool(name)
