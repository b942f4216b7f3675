"""Bounds of every pre-activation over a box of inputs, by interval arithmetic with its rounding."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.activations import kind_of
from liftscape.outcomes import ActivationError, LiftscapeError, SiteError
from liftscape.sites import AFFINE, Affine

__all__ = ["interval_bounds"]

Interval = tuple[Tensor, Tensor]

# Softplus is not among them: where it turns linear it falls by log(1 + exp(−threshold)).
_MONOTONE = {"relu", "relu6", "leaky_relu", "elu", "selu", "celu", "hardtanh", "hardsigmoid", "tanh"}
_MONOTONE |= {"sigmoid", "logsigmoid", "softsign", "identity", "prelu"}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# Maps of places alone, which keep order: what they do to the lower ends and to the upper ends bounds what they do.
_ORDERED = (nn.Flatten, nn.Unflatten, nn.Identity, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d)
_ORDERED += (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
# A sum errs by at most its number of terms times eps of the sum of their sizes; four times as much is safe.
_SLACK = 4.0


def interval_bounds(
    model: nn.Module, low: Float[Tensor, "..."], high: Float[Tensor, "..."]
) -> dict[str, tuple[Float[Tensor, " neurons"], Float[Tensor, " neurons"]]]:
    """Return for every activation of a chain the bounds of its pre-activations over all inputs low ≤ x ≤ high.

    An affine map takes middle m and radius r of a box to Wm + b and |W|r; bounds are widened by what float64 may have
    rounded off, so that they hold for the exact network with these weights.

    Source: Gowal et al. 2018 (arXiv 1810.12715), interval bound propagation.

    Args:
        model: nested nn.Sequential of affine maps, pools, BatchNorm in eval mode and monotone activations.
        low: of one input, without the axis of samples.
        high: of the same shape.

    Returns:
        Lower and upper bounds by the activation's name; one for each channel of a convolution.

    Raises:
        LiftscapeError: if the box is none.
        SiteError: if a module is no part of such a chain.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
        >>> _ = net[0].weight.data.fill_(2.0), net[0].bias.data.fill_(1.0)
        >>> low, high = interval_bounds(net, torch.tensor([0.0]), torch.tensor([1.0]))["1"]
        >>> round(float(low), 9), round(float(high), 9)
        (1.0, 3.0)
    """
    if low.shape != high.shape or bool((low > high).any()) or not bool((low.isfinite() & high.isfinite()).all()):
        raise LiftscapeError(
            f"a box needs finite lower ends that are nowhere above the upper ones, but shapes {tuple(low.shape)} and "
            f"{tuple(high.shape)} were given, {int((low > high).sum()) if low.shape == high.shape else 'some'} above."
        )
    found: dict[str, tuple[Tensor, Tensor]] = {}
    box = (low.double()[None], high.double()[None])
    with torch.no_grad():
        for name, module in _chain(model, ""):
            if _is_monotone(module):
                found[name] = _by_neuron(box[0], least=True), _by_neuron(box[1], least=False)
            box = _through(name, module, box)
    return found


def _chain(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the leaves of nested Sequentials in their order."""
    if type(module) is nn.Sequential:
        # All of them: named_children would leave out a module that stands in two places.
        for key, child in module._modules.items():
            assert child is not None
            yield from _chain(child, f"{name}.{key}" if name else key)
    else:
        yield name, module


def _is_monotone(module: nn.Module) -> bool:
    """Tell whether a module is an activation that keeps order."""
    if isinstance(module, nn.Identity):
        return False
    try:
        kind = kind_of(module)
    except ActivationError:
        return False
    signs = [kind.parameters[key] for key in ("negative_slope", "weight", "alpha") if key in kind.parameters]
    return kind.name in _MONOTONE and all(bool((torch.as_tensor(sign) >= 0).all()) for sign in signs)


def _through(name: str, module: nn.Module, box: Interval) -> Interval:
    """Return the box of what a module makes of a box."""
    low, high = box
    # Torch's own classes only: a subclass may compute something else.
    kind = type(module)
    if isinstance(module, AFFINE) and kind in AFFINE:
        return _affine(module, low, high)
    if isinstance(module, _BatchNorm) and kind in _NORMS and not module.training and module.running_var is not None:
        middle, radius = (low + high) / 2, (high - low) / 2
        same = _double(module)
        ends = [same(middle - radius), same(middle + radius)]
        return _widened(torch.minimum(*ends), torch.maximum(*ends), ends[0].abs() + ends[1].abs(), 8)
    if kind is nn.Dropout and not module.training:
        return box
    if kind in _ORDERED or _is_monotone(module):
        same = _double(module)
        ends = same(low.clone()), same(high.clone())
        return _widened(*ends, ends[0].abs() + ends[1].abs(), 8)
    raise SiteError(
        f"'{name}' is a {type(module).__name__}, through which no bounds are carried; a proof needs nn.Sequential of "
        "affine maps, pools, BatchNorm in eval mode and monotone activations."
    )


def _affine(module: Affine, low: Tensor, high: Tensor) -> Interval:
    """Return the box of an affine map's outputs."""
    middle, radius = (low + high) / 2, (high - low) / 2
    map_ = _double(module)
    centre = map_(middle)
    size = _double(module)
    size.weight.data.abs_()
    if size.bias is not None:
        size.bias.data.zero_()
    spread = size(radius)
    if size.bias is not None and map_.bias is not None:
        size.bias.data.copy_(map_.bias.abs())
    terms = size(torch.maximum(low.abs(), high.abs()))
    return _widened(centre - spread, centre + spread, terms, module.weight[0].numel() + 2)


def _widened(low: Tensor, high: Tensor, terms: Tensor, count: int) -> Interval:
    """Widen a box by what sums of so many terms may have lost."""
    slack = _SLACK * count * torch.finfo(torch.float64).eps * terms + torch.finfo(torch.float64).tiny
    return low - slack, high + slack


def _double(module: Any) -> Any:
    """Return a copy of a module in float64."""
    return copy.deepcopy(module).double()


def _by_neuron(end: Tensor, least: bool) -> Tensor:
    """Return the lowest or highest end of each neuron, a channel of pictures being one."""
    rows = end.movedim(1, -1).reshape(-1, end.shape[1])
    return rows.amin(dim=0) if least else rows.amax(dim=0)
