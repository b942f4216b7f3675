"""Swapping a module of a copy of the user's network, under all of its names."""

from torch import nn

from liftscape.functional import copy_model

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
            _leave_fast_path(copied, parent)
    for parameter in copied.parameters() if not share else ():
        parameter.grad = None
    return copied


def _leave_fast_path(model: nn.Module, name: str) -> None:
    """Let a layer of torch's Transformer call its maps, whose weights its fast path in eval mode reads itself."""
    parts = name.split(".")
    for end in range(len(parts) + 1):
        module = model.get_submodule(".".join(parts[:end]))
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
