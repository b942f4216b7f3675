"""Which maps read a layer's neurons, one by one, and nothing else does.

A width embedding copies a neuron's output and shares out its out-weights, so every use of the neuron must be seen: the
forward pass is written down as a list of steps, and the neurons are followed through it.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.embedding._steps import RETURN, Step, Steps, recorded_steps, symbolic_steps
from liftscape.forward import operation_of
from liftscape.functional import copy_model
from liftscape.outcomes import SiteError

__all__ = ["Neurons", "find_readers", "follow_neurons"]


@dataclass(frozen=True)
class Neurons:
    """Where a layer's neurons go.

    Attributes:
        readers: names of the maps that read them, in the order in which they are called.
        norms: names of the BatchNorms that they pass, one of their channels for each neuron.
    """

    readers: tuple[str, ...]
    norms: tuple[str, ...]


def find_readers(model: nn.Module, at: str, inputs: Any = None) -> tuple[str, ...]:
    """Return the names of the maps that read the neurons of `at` through pointwise functions only.

    The neurons z_j = w_j·h + b_j may pass through activations, arithmetic with numbers and inactive dropout, the
    channels of a Conv2d also through pools and a flattening; whatever else touches them, or ends the network with
    them, is named in the refusal.

    Source: the hypothesis of the width embeddings of Zhang et al. 2021 (arXiv 2105.14573), with shared maps and
    several readers, theory §6.

    Args:
        model: any module; a copy of it is traced.
        at: the name of a Linear or Conv2d.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, of which the first records the pass; without
            them the model is traced symbolically, which holds for all inputs and fails where the forward pass branches
            on tensors. A Conv2d needs them.

    Returns:
        The readers' names in the order in which they are called.

    Raises:
        SiteError: if the neurons are used otherwise, or the model cannot be traced.

    Example:
        >>> find_readers(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), "0")
        ('2',)
    """
    found = follow_neurons(model, at, inputs)
    if found.norms:
        _refuse(at, f"has neurons that pass '{found.norms[0]}', which has parameters of its own for each")
    return found.readers


def follow_neurons(model: nn.Module, at: str, inputs: Any = None) -> Neurons:
    """Return the maps that read the neurons of a layer, and the BatchNorms that they pass on their way.

    Args:
        model: as for :func:`find_readers`.
        at: as there.
        inputs: as there; a layer before a BatchNorm needs them.

    Returns:
        The names.

    Raises:
        SiteError: if the neurons are used otherwise, or the model cannot be traced.
    """
    if inputs is None and isinstance(dict(model.named_modules()).get(at), nn.Conv2d):
        raise SiteError(f"the channels of '{at}' are followed through a recorded forward pass; pass inputs=.")
    trace = symbolic_steps(copy_model(model), at) if inputs is None else recorded_steps(model, inputs)
    return _follow(trace, model, at)


def _follow(trace: Steps, model: nn.Module, at: str) -> Neurons:
    """Follow the neurons of `at` through the steps to the maps that read them."""
    call_of: dict[Hashable, int] = {}
    readers: dict[str, None] = {}
    norms: dict[str, None] = {}
    other_uses: dict[Hashable, str] = {}
    channels = isinstance(model.get_submodule(at), nn.Conv2d)
    for index, step in enumerate(trace.steps):
        calls = {call_of[operand] for operand in step.operands if operand in call_of}
        module = _map_of(step, model)
        if calls and module == at:
            _refuse(at, f"reads its own neurons in {step.function}")
        if module == at:
            call_of[step.result] = index
            continue
        if calls and module is not None and step.operands[0] in call_of:
            readers[module] = None
            continue
        norm = _norm_of(step, model, at)
        if calls and norm is not None and step.operands[0] in call_of:
            norms[norm] = None
            call_of[step.result] = calls.pop()
            continue
        other_uses.update((operand, step.function) for operand in step.operands if isinstance(operand, str))
        if calls:
            _require_apart(step, calls, call_of, trace.scalars, at, channels)
            call_of[step.result] = calls.pop()
    for name in (at, *readers):
        for parameter in (f"{name}.weight", f"{name}.bias"):
            if parameter in other_uses:
                _refuse(at, f"needs {parameter} for itself, but {other_uses[parameter]} uses it with other features")
    if not readers:
        _refuse(at, "has no neurons that a following map reads")
    return Neurons(tuple(readers), tuple(norms))


def _require_apart(
    step: Step,
    calls: set[int],
    call_of: Mapping[Hashable, int],
    scalars: frozenset[Hashable],
    at: str,
    channels: bool,
) -> None:
    """Raise unless the step acts on each neuron, or channel, by itself."""
    if step.function == RETURN:
        _refuse(at, "ends the network: its neurons are outputs")
    if step.random:
        _refuse(at, f"has neurons that pass through random {step.function}; call model.eval()")
    foreign = [operand for operand in step.operands if operand not in call_of and operand not in scalars]
    operation = operation_of(step.function)
    inactive_dropout = operation.training is not None
    apart = operation.pointwise or (channels and operation.by_channel)
    if (not apart and not inactive_dropout) or foreign or len(calls) > 1:
        _refuse(at, f"has neurons that are mixed or joined with other tensors by {step.function}")


def _refuse(at: str, reason: str) -> NoReturn:
    """Raise with the reason why the neurons of `at` cannot be copied."""
    raise SiteError(
        f"the neurons of '{at}' must reach one or more maps through pointwise functions only, but '{at}' {reason}; "
        "choose another layer."
    )


def _norm_of(step: Step, model: nn.Module, at: str) -> str | None:
    """Return the name of the BatchNorm that the step calls, if it has a channel for each neuron of a layer."""
    if step.function != "batch_norm" or len(step.operands) < 2 or not isinstance(step.operands[1], str):
        return None
    name, module = step.operands[1].rpartition(".")[0], None
    if all(isinstance(each, str) and each.rpartition(".")[0] == name for each in step.operands[1:]):
        module = dict(model.named_modules()).get(name)
    width = len(model.get_parameter(f"{at}.weight"))
    return name if isinstance(module, _BatchNorm) and module.num_features == width else None


def _map_of(step: Step, model: nn.Module) -> str | None:
    """Return the name of the Linear or Conv2d that the step calls, if it is one."""
    kind = {"linear": nn.Linear, "conv2d": nn.Conv2d}.get(step.function)
    if kind is None or len(step.operands) < 2 or not isinstance(step.operands[1], str):
        return None
    name = step.operands[1].removesuffix(".weight")
    return name if isinstance(dict(model.named_modules()).get(name), kind) else None
