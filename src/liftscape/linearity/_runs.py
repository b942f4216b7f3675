"""Runs map · activation · map in a module tree, Linear or Conv2d, whose middle is used nowhere else."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from liftscape.linearity._maps import AFFINE
from liftscape.linearity._occupancy import activation_modules
from liftscape.sites import Event, Trace, first_batch, trace_call

__all__ = ["Run", "find_runs"]


@dataclass(frozen=True)
class Run:
    """Two affine maps with one pointwise activation between them.

    Attributes:
        first: name of the map before the activation.
        activation: name of the activation module.
        last: name of the map after it.
        refusal: why the run cannot be folded whatever its pieces are; None where it can.
    """

    first: str
    activation: str
    last: str
    refusal: str | None = None


def find_runs(model: nn.Module, inputs: Any) -> tuple[Run, ...]:
    """Find every Linear · activation · Linear and Conv2d · activation · Conv2d in the order of the forward pass.

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
        before = _maker_before(trace, event, position)
        after = [later for later in trace.events[position + 1 :] if set(event.makes) & set(later.reads)]
        if before is None or not after:
            continue
        if not any(isinstance(before.function, kind) and isinstance(after[0].function, kind) for kind in AFFINE):
            continue
        runs.append(
            Run(before.name, event.name, after[0].name, _refusal(model, trace, position, (before, event, after[0])))
        )
    return tuple(runs)


def _maker_before(trace: Trace, event: Event, position: int) -> Event | None:
    """Return the event that made what the activation reads."""
    made = (other for other in reversed(trace.events[:position]) if set(event.reads) & set(other.makes))
    return next(made, None)


def _refusal(model: nn.Module, trace: Trace, position: int, run: tuple[Event, Event, Event]) -> str | None:
    """Say why the run must stay, if it must."""
    first, activation, last = run
    for event in run:
        if sum(other.function is event.function for other in trace.events) > 1:
            return f"'{event.name}' is called several times"
    parameters = [id(parameter) for event in (first, last) for parameter in event.function.parameters()]
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
    inner_reads = [other for other in trace.events if set(first.makes) & set(other.reads) and other is not activation]
    if [other for other in inner_reads if other is not last or activation.makes != first.makes]:
        return f"the output of '{first.name}' is read by '{inner_reads[0].name}' too"
    outer_reads = [other for other in trace.events[position + 1 :] if set(activation.makes) & set(other.reads)]
    if len(outer_reads) > 1 or set(activation.makes) & set(trace.outputs):
        return f"the output of '{activation.name}' is read more than once"
    return None
