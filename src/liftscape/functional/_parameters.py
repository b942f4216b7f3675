"""The trainable parameters θ of a module, and others that fit it."""

from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from liftscape.outcomes import ModelError

__all__ = ["fitting", "require_module", "trainable_parameters"]


def trainable_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return θ: the parameters that require a gradient, tied ones once, in the order of the module tree.

    Args:
        model: any module.

    Returns:
        The live tensors, detached, by name.

    Example:
        >>> list(trainable_parameters(nn.Linear(2, 1)))
        ['weight', 'bias']
    """
    return {name: tensor.detach() for name, tensor in model.named_parameters() if tensor.requires_grad}


def require_module(model: object) -> nn.Module:
    """Return a module that holds numbers, or raise.

    Args:
        model: what was given as one.

    Returns:
        The same.

    Raises:
        ModelError: if it is no module or a TorchScript one, or a parameter or buffer is on the meta device or has no
            shape yet.
    """
    if not isinstance(model, nn.Module):
        hint = "give its .model" if isinstance(getattr(model, "model", None), nn.Module) else "build one first"
        raise ModelError(f"a model is a torch.nn.Module, but {type(model).__name__} was given; {hint}.")
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            f"{model.original_name} is a TorchScript module, which cannot be called with other parameters than its "
            "own; give the torch.nn.Module that it was made from."
        )
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ModelError(
                f"{name} of {type(model).__name__} has no shape before the first call; call the model on inputs first."
            )
        if tensor.is_meta:
            raise ModelError(
                f"{name} of {type(model).__name__} is on the meta device, where it holds no numbers; load its weights "
                "first."
            )
    return model


def fitting(params: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters in the order of a model's own.

    Args:
        params: θ by name.
        own: the model's.

    Returns:
        The same θ.

    Raises:
        ModelError: if names or shapes do not fit.
    """
    given = {name: tuple(tensor.shape) for name, tensor in params.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in own.items()}
    if given != wanted:
        differing = sorted(name for name in given.keys() | wanted.keys() if given.get(name) != wanted.get(name))
        raise ModelError(
            f"params must hold the model's trainable parameters by name, but {', '.join(differing)} differ: "
            f"given {[given.get(name) for name in differing]}, wanted {[wanted.get(name) for name in differing]}."
        )
    return {name: params[name] for name in own}
