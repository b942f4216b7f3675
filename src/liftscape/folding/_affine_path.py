"""Affine neurons of a mixed layer leave into a map beside it, where that takes fewer multiplications."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.folding._narrow import narrowed
from liftscape.folding._operation_count import operations
from liftscape.folding._tree import merge
from liftscape.linearity import Occupancy, Run, absorbed, composition
from liftscape.sites import AFFINE, Affine, Parallel, copy_with, groups_of, remade

__all__ = ["PathChoice", "with_affine_paths"]


@dataclass(frozen=True)
class PathChoice:
    """What became of the affine neurons of one layer.

    Attributes:
        left: how many went into a path; 0 where they stayed.
        reason: one sentence; "" where there are none.
    """

    left: int
    reason: str


def with_affine_paths(
    model: nn.Module, runs: Sequence[Run], occupancies: dict[str, Occupancy], source: Any
) -> tuple[nn.Module, dict[str, PathChoice]]:
    """Take the affine neurons L of mixed layers out.

    z = Σ_{j∉L} B_j σ(a_j·h + c_j) + d + (B_L Λ_L A_L)h + B_L(Λc + μ)_L.

    A map beside a layer takes m_in·m_out multiplications where the neurons took |L|(m_in + m_out). Where layers share
    a map, that which saves most gets its path.

    Source: theory 5.

    Args:
        model: any module; it is left as it was.
        runs: of that module, without refusals.
        occupancies: by the activation's name.
        source: inputs, by which multiplications are counted.

    Returns:
        The network, and a choice for each activation.
    """
    before = operations(model, source)
    choices: dict[str, PathChoice] = {}
    found: list[tuple[int, int, Run, Parallel]] = []
    for place, run in enumerate(runs):
        block = _block(model, run, occupancies[run.activation])
        if isinstance(block, str):
            choices[run.activation] = PathChoice(0, block)
            continue
        saved = before - operations(_placed(copy_with(model, {}), run, block), source)
        if saved > 0:
            found.append((-saved, place, run, block))
        else:
            choices[run.activation] = PathChoice(0, f"a path would take {-saved} multiplications more than it saves.")
    made, taken = copy_with(model, {}), set[str]()
    for saved, _, run, block in sorted(found, key=lambda each: each[:2]):
        left = int(_affine(occupancies[run.activation]).sum())
        if taken & {run.first, run.last}:
            choices[run.activation] = PathChoice(0, "one of its maps is in a block whose own path saves more.")
            continue
        taken |= {run.first, run.last}
        made = _placed(made, run, block)
        reason = f"{left} affine neurons left into a map beside the layer, which saves {-saved} multiplications."
        choices[run.activation] = PathChoice(left, reason)
    return made, choices


def _affine(own: Occupancy) -> Tensor:
    """Return which neurons are on a piece with λ ≠ 0."""
    return (own.piece >= 0) & (own.slope != 0)


def _block(model: nn.Module, run: Run, own: Occupancy) -> "Parallel | str":
    """Return the layer without its affine neurons beside a map in their place, or why there is none."""
    leave = _affine(own)
    if not bool(leave.any()):
        return ""
    if bool(leave.all()):
        return "every neuron is affine, so that fold removes the whole layer."
    first, last = model.get_submodule(run.first), model.get_submodule(run.last)
    assert isinstance(first, AFFINE)
    assert isinstance(last, AFFINE)
    if groups_of(first) != 1 or groups_of(last) != 1:
        return "beside a convolution in groups no neuron leaves."
    whole = first if run.norm is None else absorbed(first, model.get_submodule(run.norm))
    path = composition(*_parts(whole, last, leave), own.slope[leave], own.intercept[leave])
    if isinstance(path, str):
        return f"{path}."
    modules = narrowed(model, run, torch.zeros_like(own.intercept), ~leave)
    activation = copy.deepcopy(modules.get(run.activation, model.get_submodule(run.activation)))
    chain = {"first": modules[run.first], "activation": activation, "last": modules[run.last]}
    block = Parallel(neurons=nn.Sequential(OrderedDict(chain)), affine=path)
    return block.train(last.training)


def _parts(first: Affine, last: Affine, leave: Tensor) -> tuple[Affine, Affine]:
    """Return both maps with the neurons that leave alone, the last without its bias."""
    go = torch.nonzero(leave).flatten().to(first.weight.device)
    bias = None if first.bias is None else first.bias.detach()[go]
    return remade(first, first.weight.detach()[go], bias), remade(last, last.weight.detach()[:, go], None)


def _placed(model: nn.Module, run: Run, block: Parallel) -> nn.Module:
    """Return the model, a copy that may be changed, with the block in the place of the run."""
    return merge(model, (run.first, run.activation, run.last), run.norm, block)[0]
