"""Bounds of every pre-activation over a box of inputs, by linear functions of the input carried backwards."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.folding._bounds import (
    NORMS,
    SLACK,
    Interval,
    box_of,
    by_neuron,
    in_double,
    is_monotone,
    leaves,
    terms_of,
    through,
)
from liftscape.folding._relaxations import Lines, bounding_lines
from liftscape.forward import AFFINE
from liftscape.functional import require_module

__all__ = ["linear_bounds"]

_EPS = torch.finfo(torch.float64).eps
_PLACES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout)
_MEANS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
# So many numbers of one function a neuron are held at a time: 32 MB of float64.
_HELD = 2**22


@dataclass(frozen=True)
class _Step:
    """A module on the way, with the box of what reaches it, and its lines if it is an activation.

    Attributes:
        module: in float64.
        box: of its input.
        lines: None for an affine map and for a module that a linear function is not carried through.
        terms: size of what an affine map sums up; None for all others.
        count: how many terms its sums have.
    """

    module: nn.Module
    box: Interval
    lines: Lines | None
    terms: Tensor | None
    count: int


def linear_bounds(
    model: nn.Module, low: Float[Tensor, "..."], high: Float[Tensor, "..."]
) -> dict[str, tuple[Float[Tensor, " neurons"], Float[Tensor, " neurons"]]]:
    """Return for every activation of a chain the bounds of its pre-activations over all inputs low ≤ x ≤ high.

    Each pre-activation is bounded by linear functions of what reaches each module before it, Λh + δ ≤ z, from the last
    module to the input: an affine map takes Λ to ΛW, an activation takes it to Λ⁺α + Λ⁻αʹ with lines below and above
    it. The best bound on the way counts, so that none is looser than that of :func:`interval_bounds`, from which max
    pools and all that is before them are bounded. Bounds are widened by what float64 may have rounded off.

    Source: Zhang et al. 2018 (arXiv 1811.00866), CROWN.

    Args:
        model: as for :func:`interval_bounds`.
        low: of one input, without the axis of samples.
        high: of the same shape.

    Returns:
        Lower and upper bounds by the activation's name; one for each channel of a convolution. Time grows with the
        square of the depth and of the number of neurons, places of a convolution counted.

    Raises:
        LiftscapeError: if the box is none.
        SiteError: if a module is no part of such a chain.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()).double()
        >>> with torch.no_grad():
        ...     _ = [net[i].weight.copy_(torch.tensor(w)) for i, w in ((0, [[1.0], [1.0]]), (2, [[1.0, -1.0]]))]
        ...     _ = [net[i].bias.fill_(b) for i, b in ((0, 2.0), (2, 0.0))]
        >>> low, high = linear_bounds(net, torch.tensor([-1.0]), torch.tensor([1.0]))["3"]
        >>> bool(high.abs() < 1e-12)  # intervals give 2, since they forget that both neurons see one input
        True
    """
    require_module(model)
    box = plain = box_of(low, high)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    steps: list[_Step] = []
    with torch.no_grad():
        for name, module in leaves(model, ""):
            lines = None
            if is_monotone(module):
                box = _refined(steps, box)
                found[name] = by_neuron(box[0], least=True), by_neuron(box[1], least=False)
                lines = bounding_lines(module, *box)
            # First, since it refuses what no bounds are carried through.
            after, plain = through(name, module, box), through(name, module, plain)
            steps.append(_step(module, box, lines))
            # A tighter box may be carried on with a rounding more.
            box = _intersection(after, plain)
    return found


def _step(module: nn.Module, box: Interval, lines: Lines | None) -> _Step:
    """Prepare a module for the way back."""
    reach, same = torch.maximum(box[0].abs(), box[1].abs()), in_double(module)
    terms, count = None, 0
    if isinstance(module, AFFINE):
        terms, count = (
            terms_of(module, reach),
            module.weight[0].numel() + module.weight.numel() // module.weight.shape[1],
        )
    elif isinstance(module, NORMS):
        assert isinstance(module, _BatchNorm)
        terms, count = terms_of(module, reach), 8
    elif isinstance(module, _MEANS):
        terms, count = same(reach), reach[0].numel()
    elif isinstance(module, _PLACES):
        terms = torch.zeros_like(same(reach))
    return _Step(same, box, lines, terms, count)


def _refined(steps: list[_Step], box: Interval) -> Interval:
    """Return the intersection of a box with the bounds that linear functions give."""
    if not any(step.lines is not None for step in steps):
        # Maps in a row are seen as one only where an activation is behind them.
        return box
    size = box[0].numel()
    rows = max(1, _HELD // max(step.box[0].numel() for step in steps))
    lower, upper = [], []
    for start in range(0, size, rows):
        unit = torch.zeros(min(rows, size - start), size, dtype=torch.float64, device=box[0].device)
        unit[:, start : start + rows].fill_diagonal_(1.0)
        unit = unit.reshape(-1, *box[0].shape[1:])
        lower.append(_least(steps, unit))
        upper.append(-_least(steps, -unit))
    return _intersection(box, (torch.cat(lower).reshape(box[0].shape), torch.cat(upper).reshape(box[0].shape)))


def _intersection(first: Interval, second: Interval) -> Interval:
    """Return the box that lies in both."""
    return torch.maximum(first[0], second[0]), torch.minimum(first[1], second[1])


def _least(steps: list[_Step], rows: Float[Tensor, "rows ..."]) -> Float[Tensor, " rows"]:
    """Return a lower bound of each linear function Λz of what leaves the last step."""
    constant = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    slack, best = torch.zeros_like(constant), torch.full_like(constant, -torch.inf)
    for step in reversed(steps):
        if step.lines is not None:
            rows, moved, lost = _through_lines(step, step.lines, rows)
        elif step.terms is not None:
            rows, moved, lost = _through_map(step, step.terms, rows)
        else:
            break
        constant = constant + moved
        slack = slack + lost + SLACK * _EPS * constant.abs()
        best = torch.maximum(best, _at_corner(step.box, rows, constant) - slack)
    return best


def _through_map(step: _Step, terms: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ΛW, Λb and what may be lost to rounding for a map z = Wh + b."""
    shape = step.box[0].shape[1:]
    with torch.enable_grad():
        at = torch.zeros(len(rows), *shape, dtype=torch.float64, device=rows.device, requires_grad=True)
        written = step.module(at)
        back = torch.autograd.grad(written, at, rows)[0]
    # The map at 0 is its constant, the same for each row.
    moved = _summed(rows * written.detach())
    lost = SLACK * (step.count + rows[0].numel() + 8) * _EPS * _summed(rows.abs() * terms)
    return back, moved, lost


def _through_lines(step: _Step, lines: Lines, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return Λ⁺α + Λ⁻αʹ, Λ⁺β + Λ⁻βʹ and what may be lost to rounding."""
    above, below = rows.clamp_min(0), rows.clamp_max(0)
    back = above * lines.lower_slope + below * lines.upper_slope
    moved = _summed(above * lines.lower + below * lines.upper)
    reach = torch.maximum(step.box[0].abs(), step.box[1].abs())
    sizes = torch.maximum(lines.lower.abs(), lines.upper.abs())
    lost = SLACK * (rows[0].numel() + 8) * _EPS * _summed(rows.abs() * sizes + back.abs() * reach)
    return back, moved, lost


def _at_corner(box: Interval, rows: Tensor, constant: Tensor) -> Tensor:
    """Return the least value of Λh + δ over a box, lowered by its rounding."""
    reach = torch.maximum(box[0].abs(), box[1].abs())
    least = _summed(rows.clamp_min(0) * box[0] + rows.clamp_max(0) * box[1]) + constant
    return least - SLACK * (rows[0].numel() + 8) * _EPS * (_summed(rows.abs() * reach) + constant.abs())


def _summed(values: Tensor) -> Float[Tensor, " rows"]:
    """Return the sum of each row's entries."""
    return values.flatten(1).sum(dim=1)
