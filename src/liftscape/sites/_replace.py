"""Swapping a module of a copy of the user's network, under all of its names."""

from torch import nn

from liftscape.risk import copy_model

__all__ = ["copy_with"]


def copy_with(model: nn.Module, replacements: dict[str, nn.Module], share: bool = False) -> nn.Module:
    """Return a deep copy of the model in which modules are replaced, under every name that they have.

    Args:
        model: any module; it is left as it was.
        replacements: new modules by the name of the old; each takes over the old one's training flag.
        share: whether what is not replaced keeps the model's own parameters and buffers, at no cost in memory.

    Returns:
        The copy, which shares no tensor with the model unless asked to; its own parameters carry no gradient.

    Example:
        >>> copied = copy_with(nn.Sequential(nn.Linear(1, 1), nn.Tanh()), {"1": nn.ReLU()})
        >>> type(copied[1]).__name__
        'ReLU'
    """
    copied = copy_model(model, share)
    names: dict[int, list[str]] = {}
    for name, module in copied.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    for name, new in replacements.items():
        old = copied.get_submodule(name)
        new.train(old.training)
        if old is copied:
            copied = new
            continue
        for alias in names[id(old)]:
            parent, _, child = alias.rpartition(".")
            setattr(copied.get_submodule(parent), child, new)
    for parameter in copied.parameters() if not share else ():
        parameter.grad = None
    return copied
