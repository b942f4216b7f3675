"""An optimizer's state, carried from a network to one that was lifted, widened or folded from it."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer

from liftscape.functional import require_module
from liftscape.outcomes import LiftscapeError

__all__ = ["carry_over"]


def carry_over(optimizer: Optimizer, *, old: nn.Module, new: nn.Module) -> Optimizer:
    """Return an optimizer of the new network that goes on where another one stands with the old network.

    Parameters that the new network took over, by name and value, keep their state (momentum, moments, step count) and
    their settings, or stay untrained where they were; those that are new start without state, in the first group. A
    lift keeps all gradients of what it leaves alone, so that its next step is the one of the old network.

    Source: theory T4: g′ = Jᵀg, J the identity on what a lift leaves alone.

    Args:
        optimizer: of the old network; it is left as it was.
        old: the network that it trains.
        new: the network that goes on.

    Returns:
        An optimizer of the same class.

    Raises:
        LiftscapeError: if there is no optimizer, it trains a parameter that is not the old network's, is an L-BFGS
            under way, or of a class that needs more than its groups.
        ModelError: if a network is none, or on the meta device.

    Example:
        >>> old = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> optimizer = torch.optim.SGD(old.parameters(), lr=0.1, momentum=0.9)
        >>> old(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> len(carry_over(optimizer, old=old, new=deepcopy(old)).state)
        4
    """
    if not isinstance(optimizer, Optimizer):
        raise LiftscapeError(f"an optimizer of torch.optim is carried over, but {type(optimizer).__name__} was given.")
    require_module(old)
    require_module(new)
    names = {id(parameter): name for name, parameter in old.named_parameters()}
    strangers = sum(id(parameter) not in names for group in optimizer.param_groups for parameter in group["params"])
    if strangers:
        raise LiftscapeError(
            f"the optimizer trains {strangers} parameters that {type(old).__name__} does not have; give the network "
            "that it was made for."
        )
    if isinstance(optimizer, LBFGS) and optimizer.state:
        raise LiftscapeError(
            "LBFGS keeps what it has learnt in vectors of all parameters, which those of another network do not fit; "
            "make a new LBFGS for the new network."
        )
    own = dict(new.named_parameters())
    taken = {name for name, parameter in old.named_parameters() if name in own and _same(parameter, own[name])}
    groups: list[dict[str, Any]] = []
    states: dict[str, Any] = {}
    for group in optimizer.param_groups:
        kept = [names[id(parameter)] for parameter in group["params"] if names[id(parameter)] in taken]
        groups.append(
            {key: value for key, value in group.items() if key != "params"} | {"params": [own[n] for n in kept]}
        )
        states |= {
            n: optimizer.state[p] for p in group["params"] if (n := names[id(p)]) in taken and p in optimizer.state
        }
    fresh = [parameter for name, parameter in own.items() if name not in taken and parameter.requires_grad]
    groups[0]["params"] = [*groups[0]["params"], *fresh]
    try:
        made = type(optimizer)([group for group in groups if group["params"]], **_required(optimizer))
    except TypeError as error:
        raise LiftscapeError(
            f"{type(optimizer).__name__} cannot be made anew from its groups of parameters: {error}; make one for the "
            "new network."
        ) from error
    for name, state in states.items():
        made.state[own[name]] = {key: _moved(value, own[name]) for key, value in state.items()}
    return made


def _same(old: torch.Tensor, new: torch.Tensor) -> bool:
    """Tell whether a parameter was taken over, perhaps to another device or dtype."""
    return old.shape == new.shape and torch.equal(old.detach().to(new), new.detach())


def _required(optimizer: Optimizer) -> dict[str, Any]:
    """Return the defaults that a class may ask for, as an SGD of old asks for its rate."""
    return {"lr": optimizer.defaults["lr"]} if "lr" in optimizer.defaults else {}


def _moved(value: Any, parameter: torch.Tensor) -> Any:
    """Return a copy of a part of a state, beside its parameter if it has its shape."""
    if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
        return value.detach().clone().to(parameter.device, parameter.dtype)
    return deepcopy(value)
