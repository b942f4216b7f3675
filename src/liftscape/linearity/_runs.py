"""Runs map · activation · map in a forward pass, Linear or convolution, whose middle is used nowhere else."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from liftscape.forward import AFFINE, Call, ForwardPass, operation_of, record
from liftscape.linearity._occupancy import activation_modules, has_pieces

__all__ = ["Run", "find_runs", "runs_of"]


@dataclass(frozen=True)
class Run:
    """Two affine maps with one pointwise activation between them, and perhaps a BatchNorm before it.

    Attributes:
        first: name of the map before the activation.
        activation: name of the activation module, or of the call where a function is called.
        last: name of the map after it.
        refusal: why the run cannot be folded whatever its pieces are; None where it can.
        norm: name of a BatchNorm between the first map and the activation; None where there is none.
        is_call: whether the activation is a call of a function, or of a module with other calls, and no module alone.
    """

    first: str
    activation: str
    last: str
    refusal: str | None = None
    norm: str | None = None
    is_call: bool = False

    @property
    def inner(self) -> tuple[str, ...]:
        """Names of all modules but the last map."""
        return (self.first, *(() if self.norm is None else (self.norm,)), self.activation)


def find_runs(model: nn.Module, inputs: Any) -> tuple[Run, ...]:
    """Find every map · activation · map of one kind, Linear, Conv1d or Conv2d, in the order of the forward pass.

    The activation is a module or a call of a function; Identity and inactive dropout between them count for nothing.

    Args:
        model: any module; it is left as it was.
        inputs: the first batch is used.

    Returns:
        The runs; those that share a map, are called several times, are read elsewhere, or have something between the
        maps that is not pointwise carry a refusal.
    """
    return runs_of(record(model, inputs))


def runs_of(whole: ForwardPass) -> tuple[Run, ...]:
    """Find the runs of a recorded forward pass.

    Args:
        whole: the pass.

    Returns:
        As for :func:`find_runs`.
    """
    # What hands on the tensor it reads must not hide who reads it.
    passed = whole.without_identities
    activations = activation_modules(passed.model)
    runs = []
    for position, call in enumerate(passed.calls):
        known = _is_activation(call, activations)
        if not known and not _may_stand_between(call):
            continue
        before, norm = _maker_before(passed, call, position), None
        if before is not None and isinstance(before.function, _BatchNorm):
            before, norm = _maker_before(passed, before, passed.calls.index(before)), before
        after = _next(passed, call, position)
        if before is None or after is None:
            continue
        stranger = None if known else call
        if known and _may_stand_before(before, activations):
            stranger, before = before, _maker_before(passed, before, passed.calls.index(before))
        if before is None or not isinstance(before.function, AFFINE):
            continue
        if known and stranger is None and not isinstance(after.function, AFFINE):
            stranger, after = after, _next(passed, after, passed.calls.index(after))
        if after is None or not _of_one_kind(before, after):
            continue
        refusal = (
            _refusal(passed, [before, *(() if norm is None else (norm,)), call, after])
            if stranger is None
            else _in_between(stranger, before, after)
        )
        is_call = len(passed.calls_of(call.function)) > 1 or not call.is_module
        if refusal is None and not is_call and before.name in passed.attributes:
            attribute = passed.attributes[before.name]
            refusal = f"the forward pass reads the {attribute} of '{before.name}' from outside of it"
        runs.append(Run(before.name, call.label, after.name, refusal, None if norm is None else norm.name, is_call))
    return tuple(runs)


def _is_activation(call: Call, modules: dict[str, nn.Module]) -> bool:
    """Tell an activation, module or function."""
    if call.is_module:
        return call.function is modules.get(call.name)
    return has_pieces(call.function)


def _may_stand_between(call: Call) -> bool:
    """Tell what is no activation but makes one tensor of one, and mixes entries by it."""
    if call.is_module:
        return not isinstance(call.function, (*AFFINE, _BatchNorm))
    return len(set(call.reads)) == len(call.makes) == 1 and not operation_of(call.name).plain


def _may_stand_before(call: Call, modules: dict[str, nn.Module]) -> bool:
    """Tell what makes one tensor of one between a map and an activation."""
    return (
        not isinstance(call.function, AFFINE)
        and len(set(call.reads)) == len(call.makes) == 1
        and not _is_activation(call, modules)
    )


def _next(passed: ForwardPass, call: Call, position: int) -> Call | None:
    """Return the call that reads first what another one makes."""
    made = set(call.makes)
    return next((later for later in passed.calls[position + 1 :] if made & set(later.reads)), None)


def _of_one_kind(before: Call, after: Call) -> bool:
    """Tell two affine maps of one kind."""
    return any(isinstance(before.function, kind) and isinstance(after.function, kind) for kind in AFFINE)


def _in_between(call: Call, before: Call, after: Call) -> str:
    """Say why what stands between two maps does not let them become one."""
    what = type(call.function).__name__ if call.is_module else "a call"
    drops = isinstance(call.function, _DropoutNd) or (not call.is_module and "dropout" in call.name)
    place = f"'{call.label}' ({what}) between '{before.name}' and '{after.name}'"
    if drops:
        return f"{place} drops at random; call eval()"
    entrywise = isinstance(call.function, _BatchNorm) or operation_of(call.name).plain
    return f"{place} cannot be absorbed into either map" if entrywise else f"{place} is not pointwise"


def _maker_before(passed: ForwardPass, call: Call, position: int) -> Call | None:
    """Return the call that made what another one reads."""
    made = (other for other in reversed(passed.calls[:position]) if set(call.reads) & set(other.makes))
    return next(made, None)


def _refusal(passed: ForwardPass, chain: list[Call]) -> str | None:
    """Say why the run must stay, if it must."""
    for call in chain:
        holds = call.is_module and next(call.function.parameters(), None) is not None
        if holds and sum(other.function is call.function for other in passed.calls) > 1:
            return f"'{call.name}' is called several times"
        if not call.is_module and any(isinstance(given, Tensor) for given in call.arguments):
            return f"'{call.label}' reads a tensor of its own"
        if isinstance(call.function, _BatchNorm) and (call.function.training or call.function.running_mean is None):
            return f"'{call.name}' normalises by the batch in hand; call eval() to fix its statistics"
        if isinstance(chain[0].function, nn.Linear) and call.axes > 2 and _is_by_channel(call.function):
            return f"'{call.name}' takes axis 1 for channels, but the neurons of '{chain[0].name}' are on the last"
    first, last = chain[0], chain[-1]
    facts = [passed.facts[call.name] for call in chain if call.is_module]
    for own in (facts[0], facts[-1]):
        if own.overrides:
            return f"'{own.name}' is a {own.class_name} with a forward of its own"
    if any(own.tied_to for own in facts):
        return f"parameters of '{first.name}' or '{last.name}' are shared with another module"
    if any("weight" in own.computed for own in (facts[0], facts[-1])):
        return f"the weight of '{first.name}' or '{last.name}' is reparametrised"
    for own in facts:
        if own.hooked:
            return f"'{own.name}' has forward hooks, which may change what it computes; remove them first"
    parameters = [id(parameter) for call in chain if call.is_module for parameter in call.function.parameters()]
    for parameter in parameters:
        reader = next(iter(passed.readers(passed.parameters[parameter])), None)
        if reader is not None:
            return f"parameters of '{first.name}' or '{last.name}' are read by '{reader.label}' too"
    for place, call in enumerate(chain[:-1]):
        others = _strange_readers(passed, chain, place)
        if others and place < len(chain) - 2:
            return f"the output of '{call.label}' is read by '{others[0].label}' too"
        if others or set(call.makes) & set(passed.outputs):
            return f"the output of '{call.label}' is read more than once"
    return None


def _is_by_channel(function: Any) -> bool:
    """Tell a module with numbers of its own for each channel, which it looks for on axis 1."""
    return isinstance(function, _BatchNorm) or (isinstance(function, nn.PReLU) and function.num_parameters > 1)


def _strange_readers(passed: ForwardPass, chain: list[Call], place: int) -> list[Call]:
    """Return who reads what a member of the chain made, beside the next ones of the chain."""
    made, allowed = set(chain[place].makes), [chain[place], chain[place + 1]]
    # A module in place hands on the tensor that it reads.
    for here, beyond in zip(chain[place + 1 :], chain[place + 2 :], strict=False):
        if not set(here.makes) & made:
            break
        allowed.append(beyond)
    return [call for call in passed.calls if made & set(call.reads) and all(call is not one for one in allowed)]
