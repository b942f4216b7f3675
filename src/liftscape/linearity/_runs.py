"""Runs map · activation · map in a module tree, Linear or convolution, whose middle is used nowhere else."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.linearity._occupancy import activation_modules
from liftscape.sites import AFFINE, Event, Trace, first_batch, trace_call

__all__ = ["Run", "find_runs"]


@dataclass(frozen=True)
class Run:
    """Two affine maps with one pointwise activation between them, and perhaps a BatchNorm before it.

    Attributes:
        first: name of the map before the activation.
        activation: name of the activation module.
        last: name of the map after it.
        refusal: why the run cannot be folded whatever its pieces are; None where it can.
        norm: name of a BatchNorm between the first map and the activation; None where there is none.
    """

    first: str
    activation: str
    last: str
    refusal: str | None = None
    norm: str | None = None

    @property
    def inner(self) -> tuple[str, ...]:
        """Names of all modules but the last map."""
        return (self.first, *(() if self.norm is None else (self.norm,)), self.activation)


def find_runs(model: nn.Module, inputs: Any) -> tuple[Run, ...]:
    """Find every map · activation · map of one kind, Linear, Conv1d or Conv2d, in the order of the forward pass.

    Args:
        model: any module; it is left as it was.
        inputs: the first batch is used.

    Returns:
        The runs; those that share a map, are called several times or are read elsewhere carry a refusal.
    """
    whole = trace_call(model, first_batch(inputs))
    # An Identity hands on the tensor it reads: those that earlier folds left must not hide who reads it.
    seen = [event for event in whole.events if not isinstance(event.function, nn.Identity)]
    trace = replace(whole, events=seen)
    activations = activation_modules(model)
    runs = []
    for position, event in enumerate(trace.events):
        if event.name not in activations or not event.is_module or event.function is not activations[event.name]:
            continue
        before, norm = _maker_before(trace, event, position), None
        if before is not None and isinstance(before.function, _BatchNorm):
            before, norm = _maker_before(trace, before, trace.events.index(before)), before
        after = [later for later in trace.events[position + 1 :] if set(event.makes) & set(later.reads)]
        if before is None or not after:
            continue
        if not any(isinstance(before.function, kind) and isinstance(after[0].function, kind) for kind in AFFINE):
            continue
        chain = [before, *(() if norm is None else (norm,)), event, after[0]]
        name = None if norm is None else norm.name
        runs.append(Run(before.name, event.name, after[0].name, _refusal(model, trace, chain), name))
    return tuple(runs)


def _maker_before(trace: Trace, event: Event, position: int) -> Event | None:
    """Return the event that made what another one reads."""
    made = (other for other in reversed(trace.events[:position]) if set(event.reads) & set(other.makes))
    return next(made, None)


def _refusal(model: nn.Module, trace: Trace, chain: list[Event]) -> str | None:
    """Say why the run must stay, if it must."""
    for event in chain:
        if sum(other.function is event.function for other in trace.events) > 1:
            return f"'{event.name}' is called several times"
        if isinstance(event.function, _BatchNorm) and (event.function.training or event.function.running_mean is None):
            return f"'{event.name}' normalises by the batch in hand; call eval() to fix its statistics"
    first, last = chain[0], chain[-1]
    for event in (first, last):
        if type(event.function).forward not in {kind.forward for kind in AFFINE}:
            return f"'{event.name}' is a {type(event.function).__name__} with a forward of its own"
    parameters = [id(parameter) for event in chain for parameter in event.function.parameters()]
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
    for place, event in enumerate(chain[:-1]):
        others = _strange_readers(trace, chain, place)
        if others and place < len(chain) - 2:
            return f"the output of '{event.name}' is read by '{others[0].name}' too"
        if others or set(event.makes) & set(trace.outputs):
            return f"the output of '{event.name}' is read more than once"
    return None


def _strange_readers(trace: Trace, chain: list[Event], place: int) -> list[Event]:
    """Return who reads what a member of the chain made, beside the next ones of the chain."""
    made, allowed = set(chain[place].makes), [chain[place], chain[place + 1]]
    # A module in place hands on the tensor that it reads.
    for here, beyond in zip(chain[place + 1 :], chain[place + 2 :], strict=False):
        if not set(here.makes) & made:
            break
        allowed.append(beyond)
    return [event for event in trace.events if made & set(event.reads) and all(event is not one for one in allowed)]
