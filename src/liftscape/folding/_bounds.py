"""Bounds of every pre-activation over a box of inputs, by interval arithmetic with its rounding."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.activations import kind_of
from liftscape.forward import AFFINE, Affine
from liftscape.functional import require_module
from liftscape.outcomes import ActivationError, LiftscapeError, SiteError

__all__ = [
    "NORMS",
    "SLACK",
    "Interval",
    "box_of",
    "by_neuron",
    "in_double",
    "interval_bounds",
    "is_monotone",
    "leaves",
    "terms_of",
    "through",
]

Interval = tuple[Tensor, Tensor]

# Softplus is not among them: where it turns linear it falls by log(1 + exp(−threshold)).
_MONOTONE = {"relu", "relu6", "leaky_relu", "elu", "selu", "celu", "hardtanh", "hardsigmoid", "tanh"}
_MONOTONE |= {"sigmoid", "logsigmoid", "softsign", "identity", "prelu"}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# Maps of places alone, which keep order: what they do to the lower ends and to the upper ends bounds what they do.
_ORDERED = (nn.Flatten, nn.Unflatten, nn.Identity, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d)
_ORDERED += (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
# A sum errs by at most its number of terms times eps of the sum of their sizes; four times as much is safe.
SLACK = 4.0


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
        SiteError: if a module is no part of such a chain, or has forward hooks.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
        >>> _ = net[0].weight.data.fill_(2.0), net[0].bias.data.fill_(1.0)
        >>> low, high = interval_bounds(net, torch.tensor([0.0]), torch.tensor([1.0]))["1"]
        >>> round(float(low), 9), round(float(high), 9)
        (1.0, 3.0)
    """
    require_module(model)
    box = box_of(low, high)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        for name, module in leaves(model, ""):
            if is_monotone(module):
                found[name] = by_neuron(box[0], least=True), by_neuron(box[1], least=False)
            box = through(name, module, box)
    return found


def box_of(low: Tensor, high: Tensor) -> Interval:
    """Return a box of one sample in float64, or raise if its ends are none."""
    if low.is_meta or high.is_meta:
        wrong = "the meta device, where they hold no numbers, was given"
    elif low.is_complex() or high.is_complex():
        wrong = "complex numbers were given"
    elif low.shape != high.shape:
        wrong = f"shapes {tuple(low.shape)} and {tuple(high.shape)} were given"
    elif (unknown := int((~(low.isfinite() & high.isfinite())).sum())) > 0:
        wrong = f"{unknown} of {low.numel()} are not finite"
    elif (above := int((low > high).sum())) > 0:
        wrong = f"{above} of {low.numel()} are above"
    else:
        return low.double()[None], high.double()[None]
    raise LiftscapeError(f"a box needs finite lower ends that are nowhere above the upper ones, but {wrong}.")


def leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the leaves of nested Sequentials in their order, or raise where hooks may change what one computes."""
    if module._forward_hooks or module._forward_pre_hooks:
        what = f"'{name}'" if name else "the network"
        raise SiteError(f"{what} has forward hooks, of which bounds know nothing; remove them first.")
    if type(module) is nn.Sequential:
        # All of them: named_children would leave out a module that stands in two places.
        for key, child in module._modules.items():
            assert child is not None
            yield from leaves(child, f"{name}.{key}" if name else key)
    else:
        yield name, module


def is_monotone(module: nn.Module) -> bool:
    """Tell whether a module is an activation that keeps order."""
    if isinstance(module, nn.Identity):
        return False
    try:
        kind = kind_of(module)
    except ActivationError:
        return False
    signs = [kind.parameters[key] for key in ("negative_slope", "weight", "alpha") if key in kind.parameters]
    return kind.name in _MONOTONE and all(bool((torch.as_tensor(sign) >= 0).all()) for sign in signs)


def through(name: str, module: nn.Module, box: Interval) -> Interval:
    """Return the box of what a module makes of a box, or raise where it does not take one of this shape."""
    try:
        return _through(name, module, box)
    except RuntimeError as error:
        detail = " ".join(str(error).split()).rstrip(".")
        raise SiteError(f"'{name}' does not take a box of shape {tuple(box[0].shape[1:])}: {detail}.") from error


def _through(name: str, module: nn.Module, box: Interval) -> Interval:
    """Return the box of what a module makes of a box."""
    low, high = box
    # Torch's own classes only: a subclass may compute something else.
    kind = type(module)
    if isinstance(module, AFFINE) and kind in AFFINE:
        return _affine(module, low, high)
    if isinstance(module, _BatchNorm) and kind in NORMS and not module.training and module.running_var is not None:
        middle, radius = (low + high) / 2, (high - low) / 2
        same = in_double(module)
        ends = [same(middle - radius), same(middle + radius)]
        terms = terms_of(module, torch.maximum(low.abs(), high.abs()))
        return widened(torch.minimum(*ends), torch.maximum(*ends), terms, 8)
    if kind is nn.Dropout and not module.training:
        return box
    if kind in _ORDERED or is_monotone(module):
        same = in_double(module)
        ends = same(low.clone()), same(high.clone())
        return widened(*ends, ends[0].abs() + ends[1].abs(), 8)
    raise SiteError(
        f"'{name}' is a {type(module).__name__}, through which no bounds are carried; a proof needs nn.Sequential of "
        "affine maps, pools, BatchNorm in eval mode and monotone activations."
    )


def _affine(module: Affine, low: Tensor, high: Tensor) -> Interval:
    """Return the box of an affine map's outputs."""
    middle, radius = (low + high) / 2, (high - low) / 2
    centre = in_double(module)(middle)
    size = in_double(module)
    size.weight.data.abs_()
    if size.bias is not None:
        size.bias.data.zero_()
    spread = size(radius)
    terms = terms_of(module, torch.maximum(low.abs(), high.abs()))
    return widened(centre - spread, centre + spread, terms, module.weight[0].numel() + 2)


def terms_of(module: "Affine | _BatchNorm", reach: Tensor) -> Tensor:
    """Return |W| r + |b|, the size of the terms that a map sums up for features of size at most r.

    A BatchNorm with fixed statistics sums up |s|(r + |m|) + |β|: where a feature is near its mean, the sum is small and
    its rounding is not.
    """
    size = in_double(module)
    if isinstance(size, _BatchNorm):
        assert size.running_mean is not None
        size.running_mean = -size.running_mean.abs()
    for parameter in size.parameters():
        parameter.data.abs_()
    return size(reach)


def widened(low: Tensor, high: Tensor, terms: Tensor, count: int) -> Interval:
    """Widen a box by what sums of so many terms may have lost."""
    slack = SLACK * count * torch.finfo(torch.float64).eps * terms + torch.finfo(torch.float64).tiny
    return low - slack, high + slack


def in_double(module: Any) -> Any:
    """Return a copy of a module in float64."""
    return copy.deepcopy(module).double()


def by_neuron(end: Tensor, least: bool) -> Tensor:
    """Return the lowest or highest end of each neuron, a channel of pictures being one."""
    rows = end.movedim(1, -1).reshape(-1, end.shape[1])
    return rows.amin(dim=0) if least else rows.amax(dim=0)
