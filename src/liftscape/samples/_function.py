"""That a network is a deterministic function of real parameters, and why it is none where it is not."""

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm

from liftscape.functional import (
    MODEL_ERRORS,
    call_model,
    few_samples,
    hooked,
    inputs_named,
    named_tensors,
    random_states,
    require_module,
    trainable_parameters,
    untouched,
)
from liftscape.outcomes import DataError, ModelError

__all__ = ["check_batch_statistics", "check_deterministic", "check_model", "check_real", "check_repeatable"]


def check_model(model: nn.Module, inputs: Any, batches: int) -> Any:
    """Raise unless the model is a deterministic function of floating-point parameters on a batch.

    Args:
        model: the module.
        inputs: of one batch, on which it is evaluated twice.
        batches: how many there are.

    Returns:
        The output on the batch.

    Raises:
        ModelError: if a parameter is not floating point, none is trainable, BatchNorm trains over several batches, the
            output holds no tensor, two evaluations differ, spectral normalisation trains, or the model raises on the
            inputs.
        DataError: if inputs and parameters differ in dtype or device.
    """
    params = trainable_parameters(require_module(model))
    if not params:
        raise ModelError(f"{type(model).__name__} has no trainable parameter; set requires_grad on those to study.")
    check_real(model)
    check_batch_statistics(model, batches)
    _check_spectral_norm(model)
    _check_match(next(iter(params.items())), inputs)
    with inputs_named(model, inputs):
        return check_deterministic(model, inputs)


def check_deterministic(model: nn.Module, inputs: Any) -> Any:
    """Raise, and name the module, if two evaluations of the model differ.

    Args:
        model: the module.
        inputs: of one batch, on which it is evaluated twice.

    Returns:
        The output.

    Raises:
        ModelError: if they differ, or the output holds no tensor.
    """
    with untouched(model):
        first, second = _two_outputs(model, inputs)
        if _differ(first, second):
            raise ModelError(
                f"two evaluations differ at {_first_difference(model, inputs)}, so the risk is no function of the "
                "parameters; call model.eval() or remove the randomness."
            )
        return first


def check_repeatable(model: nn.Module, inputs: Any) -> None:
    """Raise as :func:`check_deterministic` does, after fewer evaluations where those tell as much.

    Where nothing is drawn a few samples do, and two passes over a batch may be most of the work of the caller.

    Args:
        model: the module.
        inputs: of one batch; all are evaluated where random numbers are or may be drawn, or the model takes no fewer.

    Raises:
        ModelError: if two evaluations differ, or the output holds no tensor.
    """
    with untouched(model):
        before = random_states()
        try:
            certain = not _differ(*_two_outputs(model, few_samples(inputs))) and not _holds_generator(model)
        except MODEL_ERRORS:
            certain = False
        if not certain or before != random_states():
            check_deterministic(model, inputs)


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


def _check_spectral_norm(model: nn.Module) -> None:
    """Raise if a spectral norm is in training mode, where its vectors move with θ outside of the derivative."""
    for name, module in model.named_modules():
        hooks = module._forward_pre_hooks.values()
        by_hook = any(isinstance(hook, SpectralNorm) for hook in hooks)
        if module.training and (by_hook or isinstance(module, parametrizations._SpectralNorm)):
            raise ModelError(
                f"'{name.partition('.parametrizations')[0]}' is spectrally normalised in training mode, where each "
                "call takes a step towards the norm that no derivative counts; call model.eval()."
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


def _holds_generator(model: nn.Module) -> bool:
    """Tell whether a module has a generator of its own, whose state none of the shared ones shows."""
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    return any(isinstance(value, kinds) for module in model.modules() for value in vars(module).values())


def _two_outputs(model: nn.Module, inputs: Any) -> tuple[Any, Any]:
    """Return the outputs of two evaluations."""
    with torch.no_grad():
        first, second = (call_model(model, trainable_parameters(model), inputs) for _ in range(2))
    if not named_tensors(first):
        raise ModelError(
            f"the model must return a tensor, or a dict or tuple of tensors, but it returned "
            f"{type(first).__name__}; wrap it."
        )
    return first, second


def _differ(first: Any, second: Any) -> bool:
    """Tell whether two outputs differ where they are finite."""
    pairs = zip(named_tensors(first).values(), named_tensors(second).values(), strict=True)
    return any(not torch.equal(a, b) and bool(torch.isfinite(a).all()) for a, b in pairs)


def _first_difference(model: nn.Module, inputs: Any) -> str:
    """Name the module that finished first with two different outputs."""
    with torch.no_grad(), _recorded_outputs(model) as runs:
        for _ in range(2):
            call_model(model, trainable_parameters(model), inputs)
    for name, outputs in runs.items():
        half = len(outputs) // 2
        if any(not torch.equal(a, b) for a, b in zip(outputs[:half], outputs[half:], strict=True)):
            return f"module '{name}'" if name else "the model itself"
    return "the model itself"


@contextmanager
def _recorded_outputs(model: nn.Module) -> Generator[dict[str, list[Tensor]], None, None]:
    """Record every module's tensor outputs while the context lasts."""
    runs: dict[str, list[Tensor]] = {}
    note = lambda name: (
        lambda _module, _args, output: (
            runs.setdefault(name, []).append(output.clone()) if isinstance(output, Tensor) else None
        )
    )
    with hooked(after=[(module, note(name)) for name, module in model.named_modules()]):
        yield runs
