"""The network as a pure function f_θ(x)."""

import copy
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map_only

from liftscape.functional._kept import kept_attributes
from liftscape.functional._kernels import twice_differentiable
from liftscape.functional._outputs import map_tensors
from liftscape.functional._substitutes import faithful

__all__ = ["arguments_of", "at_every_place", "call_model", "copy_model"]

# Whose code is known to keep its inputs and attributes as they are.
_PLAIN = ("torch.nn.modules.", "liftscape.")
# Whose kernels, or what they do with rows, differ from what is differentiated twice.
_NOT_PLAIN = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
)


def call_model(
    model: nn.Module, params: Mapping[str, Tensor], inputs: Any, buffers: Mapping[str, Tensor] | None = None
) -> Any:
    """Return f_θ(inputs) without a trace in the model: buffers that the call updates are copies.

    A model may differentiate inside, as for a physics-informed residual: under torch.no_grad its call is recorded all
    the same, from detached parameters, and its output is detached.

    Args:
        model: the module whose structure, frozen parameters and mode are used.
        params: θ by name.
        inputs: one positional input, a tuple or list of positional inputs, or a mapping of keyword inputs.
        buffers: their values by name; the model's own when None.

    Returns:
        What the module returns.
    """
    # A model that differentiates with respect to its input marks it so, which must not reach the caller's data.
    inputs = tree_map_only(Tensor, lambda leaf: leaf if leaf.requires_grad else leaf.detach(), inputs)
    args, kwargs = arguments_of(inputs)
    given = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    modules = list(model.modules())
    if buffers is None:
        buffers = dict(model.named_buffers()) if any(module._buffers for module in modules) else {}
    state = at_every_place(model, {**params, **{name: buffer.clone() for name, buffer in buffers.items()}})
    # For small networks of torch's own layers all that is taken care of would double the time of a call.
    careful = nullcontext() if all(map(_is_plain, modules)) else _careful(model, given)
    with careful:
        if torch.is_grad_enabled():
            return functional_call(model, state, args, kwargs, tie_weights=False)
        state = {name: tensor.detach() for name, tensor in state.items()}
        with torch.enable_grad():
            output = functional_call(model, state, args, kwargs, tie_weights=False)
        return map_tensors(Tensor.detach, output)


def at_every_place(model: nn.Module, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what stands for a model's parameters and buffers, by name of every place where one of them stands.

    A module that has several names is one place: torch's functional_call, given two names of it, would leave the
    tensors of the call behind in the model.

    Args:
        model: any module.
        values: by name; tied tensors once.

    Returns:
        The same values, those of tied tensors at each module that has them.

    Example:
        >>> map_ = nn.Linear(1, 1)
        >>> twice = nn.Sequential(map_, map_)
        >>> list(at_every_place(twice, dict(twice.named_parameters())))
        ['0.weight', '0.bias']
    """
    places = {
        f"{prefix}.{key}" if prefix else key: tensor
        for prefix, module in model.named_modules()
        for key, tensor in (*module._parameters.items(), *module._buffers.items())
    }
    if values.keys() <= places.keys():
        by_tensor = {id(places[name]): value for name, value in values.items()}
    else:
        # Names of a module that has others, too.
        named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
        by_tensor = {id(tensor): values[name] for name, tensor in named if name in values}
    return {name: by_tensor[id(tensor)] for name, tensor in places.items() if id(tensor) in by_tensor}


def arguments_of(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with which a model is called.

    Args:
        inputs: one positional input, a tuple or list of positional inputs, or a mapping of keyword inputs.

    Returns:
        Positional and keyword arguments.

    Example:
        >>> arguments_of({"x": 1}), arguments_of((1, 2)), arguments_of(1)
        (((), {'x': 1}), ((1, 2), {}), ((1,), {}))
    """
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,), {}


def copy_model(model: nn.Module, share: bool = False) -> nn.Module:
    """Return a deep copy, also of a model that keeps computed tensors, as masked and spectral-normed ones do.

    Args:
        model: any module.
        share: whether parameters and buffers are the model's own instead of copies.

    Returns:
        The copy.
    """
    derived = {id(tensor): tensor.detach().clone() for _, _, tensor in _derived_tensors(model) if not tensor.is_leaf}
    own = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())} if share else {}
    return copy.deepcopy(model, derived | own)


def _derived_tensors(model: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Return the tensors that stand in plain attributes, where forward pre-hooks put weights that they compute."""
    return [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    ]


def _is_plain(module: nn.Module) -> bool:
    """Tell a layer of torch's that leaves its inputs and itself alone and whose derivatives are those of its output."""
    return (
        _is_plain_type(type(module))
        and not module._forward_pre_hooks
        and not module._forward_hooks
        and module._compiled_call_impl is None
        and not vars(module).get("inplace", False)
    )


@cache
def _is_plain_type(kind: type[nn.Module]) -> bool:
    """Tell a type of layers that runs on kernels with a second derivative."""
    return kind.__module__.startswith(_PLAIN) and not issubclass(kind, _NOT_PLAIN)


@contextmanager
def _careful(model: nn.Module, inputs: list[Tensor]) -> Generator[None]:
    """Keep attributes and inputs as they are, and derivatives faithful, while a call of any model lasts."""
    with twice_differentiable(model), kept_attributes(model), faithful(inputs):
        yield
