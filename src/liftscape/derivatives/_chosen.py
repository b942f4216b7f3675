"""Which parameters an operator acts on: all, or those of chosen modules."""

import difflib
from collections.abc import Sequence

from torch import nn

from liftscape.outcomes import ModelError

__all__ = ["chosen_parameters"]


def chosen_parameters(model: nn.Module, only: str | Sequence[str] | None) -> list[str]:
    """Return the names of the trainable parameters in the named modules, in the model's order, tied ones once.

    Args:
        model: any module.
        only: the name of a module or parameter, or several; None for all.

    Returns:
        Names as in :func:`liftscape.risk.trainable_parameters`.

    Raises:
        ModelError: if there is no such module or parameter (the nearest name is offered), or nothing in it trains.

    Example:
        >>> chosen_parameters(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), "1")
        ['1.weight', '1.bias']
    """
    trainable = [name for name, tensor in model.named_parameters() if tensor.requires_grad]
    if only is None:
        return trainable
    # A module that borrows another's weight knows it by a name of its own.
    first = {id(tensor): name for name, tensor in model.named_parameters()}
    every = {name: first[id(tensor)] for name, tensor in model.named_parameters(remove_duplicate=False)}
    chosen: set[str] = set()
    for name in [only] if isinstance(only, str) else only:
        found = {own for alias, own in every.items() if alias == name or alias.startswith(f"{name}.") or not name}
        if not found & set(trainable):
            raise ModelError(_unknown(model, name, list(every), bool(found)))
        chosen |= found
    if not chosen:
        raise ModelError(f"at must name a module or parameter of {type(model).__name__}, but {only!r} names none.")
    return [name for name in trainable if name in chosen]


def _unknown(model: nn.Module, name: str, parameters: list[str], frozen: bool) -> str:
    """Say what is wrong with a name."""
    modules = [known for known, _ in model.named_modules(remove_duplicate=False) if known]
    if frozen or name in modules:
        return f"'{name}' of {type(model).__name__} has no trainable parameter; set requires_grad on those to study."
    nearest = difflib.get_close_matches(name, [*modules, *parameters], n=1, cutoff=0.3)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"its parameters are {parameters}."
    return f"{type(model).__name__} has no module or parameter '{name}'; {hint}"
