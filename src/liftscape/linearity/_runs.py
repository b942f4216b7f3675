"""Runs map · activation · map in a forward pass, Linear or convolution, whose middle is used nowhere else."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from liftscape.linearity._occupancy import activation_modules, has_pieces
from liftscape.sites import AFFINE, Event, Trace, attributes_read, first_batch, trace_first

__all__ = ["Run", "find_runs"]

# What gives a tensor another shape or place, or works entry by entry: no obstacle, though no activation either.
_VIEWS = "flatten unflatten reshape view transpose permute movedim squeeze unsqueeze expand chunk split unbind getitem"
_ENTRYWISE = "add radd iadd sub rsub isub mul rmul imul div truediv rtruediv itruediv pow rpow neg exp log sqrt square"
_OTHERS = (
    "contiguous clone detach to float double abs absolute sign clamp clip clamp_min clamp_max sin cos erf identity"
)
_HARMLESS = frozenset(f"{_VIEWS} {_ENTRYWISE} {_OTHERS}".split())


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
    # A batch may be dear to come by: it is asked for once.
    first = [(first_batch(inputs), None)]
    whole = trace_first(model, first)
    # What hands on the tensor it reads must not hide who reads it.
    trace = replace(whole, events=[event for event in whole.events if not event.hands_on])
    activations = activation_modules(model)
    runs = []
    for position, event in enumerate(trace.events):
        known = _is_activation(event, activations)
        if not known and not _may_stand_between(event):
            continue
        before, norm = _maker_before(trace, event, position), None
        if before is not None and isinstance(before.function, _BatchNorm):
            before, norm = _maker_before(trace, before, trace.events.index(before)), before
        after = _next(trace, event, position)
        if before is None or after is None:
            continue
        stranger = None if known else event
        if known and _may_stand_before(before, activations):
            stranger, before = before, _maker_before(trace, before, trace.events.index(before))
        if before is None or not isinstance(before.function, AFFINE):
            continue
        if known and stranger is None and not isinstance(after.function, AFFINE):
            stranger, after = after, _next(trace, after, trace.events.index(after))
        if after is None or not _of_one_kind(before, after):
            continue
        refusal = (
            _refusal(model, trace, [before, *(() if norm is None else (norm,)), event, after])
            if stranger is None
            else _in_between(stranger, before, after)
        )
        name = None if norm is None else norm.name
        several = sum(other.function is event.function for other in trace.events) > 1
        runs.append(Run(before.name, event.label, after.name, refusal, name, several or not event.is_module))
    leaving = [run.first for run in runs if run.refusal is None and not run.is_call]
    read = attributes_read(model, leaving, first)
    return tuple(
        replace(run, refusal=f"the forward pass reads the {read[run.first]} of '{run.first}' from outside of it")
        if run.refusal is None and not run.is_call and run.first in read
        else run
        for run in runs
    )


def _is_activation(event: Event, modules: dict[str, nn.Module]) -> bool:
    """Tell an activation, module or function."""
    if event.is_module:
        return event.function is modules.get(event.name)
    return has_pieces(event.function)


def _may_stand_between(event: Event) -> bool:
    """Tell what is no activation but makes one tensor of one, and mixes entries by it."""
    if event.is_module:
        return not isinstance(event.function, (*AFFINE, _BatchNorm))
    return len(set(event.reads)) == len(event.makes) == 1 and event.name.strip("_") not in _HARMLESS


def _may_stand_before(event: Event, modules: dict[str, nn.Module]) -> bool:
    """Tell what makes one tensor of one between a map and an activation."""
    return (
        not isinstance(event.function, AFFINE)
        and len(set(event.reads)) == len(event.makes) == 1
        and not _is_activation(event, modules)
    )


def _next(trace: Trace, event: Event, position: int) -> Event | None:
    """Return the event that reads first what another one makes."""
    made = set(event.makes)
    return next((later for later in trace.events[position + 1 :] if made & set(later.reads)), None)


def _of_one_kind(before: Event, after: Event) -> bool:
    """Tell two affine maps of one kind."""
    return any(isinstance(before.function, kind) and isinstance(after.function, kind) for kind in AFFINE)


def _in_between(event: Event, before: Event, after: Event) -> str:
    """Say why what stands between two maps does not let them become one."""
    what = type(event.function).__name__ if event.is_module else "a call"
    drops = isinstance(event.function, _DropoutNd) or (not event.is_module and "dropout" in event.name)
    place = f"'{event.label}' ({what}) between '{before.name}' and '{after.name}'"
    if drops:
        return f"{place} drops at random; call eval()"
    entrywise = isinstance(event.function, _BatchNorm) or event.name.strip("_") in _HARMLESS
    return f"{place} cannot be absorbed into either map" if entrywise else f"{place} is not pointwise"


def _maker_before(trace: Trace, event: Event, position: int) -> Event | None:
    """Return the event that made what another one reads."""
    made = (other for other in reversed(trace.events[:position]) if set(event.reads) & set(other.makes))
    return next(made, None)


def _refusal(model: nn.Module, trace: Trace, chain: list[Event]) -> str | None:
    """Say why the run must stay, if it must."""
    for event in chain:
        holds = event.is_module and next(event.function.parameters(), None) is not None
        if holds and sum(other.function is event.function for other in trace.events) > 1:
            return f"'{event.name}' is called several times"
        if not event.is_module and any(isinstance(given, Tensor) for given in event.arguments):
            return f"'{event.label}' reads a tensor of its own"
        if isinstance(event.function, _BatchNorm) and (event.function.training or event.function.running_mean is None):
            return f"'{event.name}' normalises by the batch in hand; call eval() to fix its statistics"
        if isinstance(chain[0].function, nn.Linear) and event.axes > 2 and _is_by_channel(event.function):
            return f"'{event.name}' takes axis 1 for channels, but the neurons of '{chain[0].name}' are on the last"
    first, last = chain[0], chain[-1]
    for event in (first, last):
        if type(event.function).forward not in {kind.forward for kind in AFFINE}:
            return f"'{event.name}' is a {type(event.function).__name__} with a forward of its own"
    modules = [event.function for event in chain if event.is_module]
    parameters = [id(parameter) for module in modules for parameter in module.parameters()]
    uses = [
        id(parameter)
        for module in model.modules()
        for parameter in module._parameters.values()
        if parameter is not None
    ]
    if any(uses.count(parameter) > 1 for parameter in parameters):
        return f"parameters of '{first.name}' or '{last.name}' are shared with another module"
    if any("weight" not in event.function._parameters for event in (first, last)):
        return f"the weight of '{first.name}' or '{last.name}' is reparametrised"
    for event in chain:
        if event.is_module and (event.function._forward_hooks or event.function._forward_pre_hooks):
            return f"'{event.name}' has forward hooks, which may change what it computes; remove them first"
    for parameter in parameters:
        # A frozen parameter stands for itself.
        reader = next(iter(trace.readers(trace.parameters.get(parameter, parameter))), None)
        if reader is not None:
            return f"parameters of '{first.name}' or '{last.name}' are read by '{reader.label}' too"
    for place, event in enumerate(chain[:-1]):
        others = _strange_readers(trace, chain, place)
        if others and place < len(chain) - 2:
            return f"the output of '{event.label}' is read by '{others[0].label}' too"
        if others or set(event.makes) & set(trace.outputs):
            return f"the output of '{event.label}' is read more than once"
    return None


def _is_by_channel(function: Any) -> bool:
    """Tell a module with numbers of its own for each channel, which it looks for on axis 1."""
    return isinstance(function, _BatchNorm) or (isinstance(function, nn.PReLU) and function.num_parameters > 1)


def _strange_readers(trace: Trace, chain: list[Event], place: int) -> list[Event]:
    """Return who reads what a member of the chain made, beside the next ones of the chain."""
    made, allowed = set(chain[place].makes), [chain[place], chain[place + 1]]
    # A module in place hands on the tensor that it reads.
    for here, beyond in zip(chain[place + 1 :], chain[place + 2 :], strict=False):
        if not set(here.makes) & made:
            break
        allowed.append(beyond)
    return [event for event in trace.events if made & set(event.reads) and all(event is not one for one in allowed)]
