"""The network as a pure function f_θ(x), and the checks that it is one."""

import copy
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map_only

from liftscape.outcomes import DataError, ModelError
from liftscape.risk._batches import Batches
from liftscape.risk._inputs import inputs_named
from liftscape.risk._kernels import twice_differentiable
from liftscape.risk._outputs import map_tensors, named_tensors
from liftscape.risk._parameters import require_module, trainable_parameters

__all__ = [
    "arguments_of",
    "call_model",
    "check_batch_statistics",
    "check_deterministic",
    "check_model",
    "check_real",
    "copy_model",
]


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
    own = dict(model.named_buffers()) if buffers is None else buffers
    state = {**params, **{name: buffer.clone() for name, buffer in own.items()}}
    with twice_differentiable(model), _kept_attributes(model):
        if torch.is_grad_enabled():
            return functional_call(model, state, args, kwargs)
        with torch.enable_grad():
            output = functional_call(model, {name: tensor.detach() for name, tensor in state.items()}, args, kwargs)
        return map_tensors(Tensor.detach, output)


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
    if share:
        return copy.deepcopy(model, {id(own): own for own in (*model.parameters(), *model.buffers())})
    derived = {id(tensor): tensor.detach().clone() for _, _, tensor in _derived_tensors(model) if not tensor.is_leaf}
    return copy.deepcopy(model, derived)


def _derived_tensors(model: nn.Module) -> list[tuple[nn.Module, str, Tensor]]:
    """Return the tensors that stand in plain attributes, where forward pre-hooks put weights that they compute."""
    return [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    ]


@contextmanager
def _kept_attributes(model: nn.Module) -> Generator[None]:
    """Put such tensors back when the context ends."""
    derived = _derived_tensors(model)
    try:
        yield
    finally:
        for module, name, tensor in derived:
            vars(module)[name] = tensor


def check_model(model: nn.Module, batches: Batches) -> Any:
    """Raise unless the model is a deterministic function of floating-point parameters on these batches.

    Args:
        model: the module.
        batches: the data; its first batch is evaluated twice.

    Returns:
        The output on the first batch.

    Raises:
        ModelError: if a parameter is not floating point, none is trainable, BatchNorm trains over several batches, the
            output holds no tensor, two evaluations differ, or the model raises on the inputs.
        DataError: if inputs and parameters differ in dtype or device.
    """
    params = trainable_parameters(require_module(model))
    if not params:
        raise ModelError(f"{type(model).__name__} has no trainable parameter; set requires_grad on those to study.")
    check_real(model)
    check_batch_statistics(model, batches.count)
    inputs, _ = next(iter(batches))
    _check_match(next(iter(params.items())), inputs)
    with inputs_named(model, inputs):
        return check_deterministic(model, inputs)


def check_deterministic(model: nn.Module, inputs: Any) -> Any:
    """Raise, and name the module, if two evaluations of the model differ.

    Args:
        model: the module.
        inputs: of one batch.

    Returns:
        The output.

    Raises:
        ModelError: if they differ, or the output holds no tensor.
    """
    params = trainable_parameters(model)
    with torch.no_grad():
        first = call_model(model, params, inputs)
        second = call_model(model, params, inputs)
        if not named_tensors(first):
            raise ModelError(
                f"the model must return a tensor, or a dict or tuple of tensors, but it returned "
                f"{type(first).__name__}; wrap it."
            )
        if _differ(first, second):
            with _recorded_outputs(model) as runs:
                call_model(model, params, inputs)
                call_model(model, params, inputs)
            raise ModelError(
                f"two evaluations differ at {_first_difference(runs)}, so the risk is no function of the parameters; "
                "call model.eval() or remove the randomness."
            )
    return first


def check_batch_statistics(model: nn.Module, batches: int) -> None:
    """Raise if BatchNorm trains and the data come in several batches.

    Args:
        model: the module.
        batches: their number.

    Raises:
        ModelError: if it does; it names the module.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None) and batches > 1:
            raise ModelError(
                f"{name} is BatchNorm in training mode and the data come in {batches} batches, so the risk is "
                "not a mean over samples; give the full batch, or call model.eval()."
            )


def check_real(model: nn.Module) -> None:
    """Raise if a parameter, trainable or not, is an integer or complex."""
    for name, tensor in model.named_parameters():
        if not tensor.is_floating_point():
            raise ModelError(
                f"parameter {name} of {type(model).__name__} has dtype {tensor.dtype}; θ must be real floating point, "
                "so cast it first, or make it a buffer."
            )


def _check_match(parameter: tuple[str, Tensor], inputs: Any) -> None:
    """Raise if floating inputs differ from the parameters in dtype or device."""
    name, tensor = parameter
    if not isinstance(inputs, Tensor):
        return
    if inputs.device != tensor.device:
        raise DataError(f"inputs are on {inputs.device} but parameter {name} is on {tensor.device}; move one of them.")
    if inputs.is_floating_point() and inputs.dtype != tensor.dtype:
        raise DataError(
            f"inputs have dtype {inputs.dtype} but parameter {name} has {tensor.dtype}; convert one of them."
        )


def _differ(first: Any, second: Any) -> bool:
    """Tell whether two outputs differ where they are finite."""
    pairs = zip(named_tensors(first).values(), named_tensors(second).values(), strict=True)
    return any(not torch.equal(a, b) and bool(torch.isfinite(a).all()) for a, b in pairs)


@contextmanager
def _recorded_outputs(model: nn.Module) -> Generator[dict[str, list[Tensor]], None, None]:
    """Record every module's tensor outputs while the context lasts."""
    runs: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_hook(
            lambda _module, _args, output, name=name: (
                runs.setdefault(name, []).append(output.clone()) if isinstance(output, Tensor) else None
            )
        )
        for name, module in model.named_modules()
    ]
    try:
        yield runs
    finally:
        for handle in handles:
            handle.remove()


def _first_difference(runs: dict[str, list[Tensor]]) -> str:
    """Name the module that finished first with two different outputs."""
    for name, outputs in runs.items():
        half = len(outputs) // 2
        if any(not torch.equal(a, b) for a, b in zip(outputs[:half], outputs[half:], strict=True)):
            return f"module '{name}'" if name else "the model itself"
    return "the model itself"
