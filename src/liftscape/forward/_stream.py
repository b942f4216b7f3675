"""One pass over the data for any number of observers."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, final, runtime_checkable

import torch
from torch import nn

from liftscape.forward._input_batches import iterate_inputs
from liftscape.forward._places import Observation, Place
from liftscape.functional import call_model, trainable_parameters, untouched

State = TypeVar("State")
Result = TypeVar("Result", covariant=True)

__all__ = ["Each", "Observer", "observing", "stream"]


@runtime_checkable
class Observer(Protocol[State, Result]):
    """A measure of what passes through a network: where it looks, and a state that every observation updates.

    An observer is a value; what it accumulates is in the state, so that one observer serves several passes.
    """

    @property
    def place(self) -> Place:
        """Where it looks."""
        ...

    def init(self) -> State:
        """Return the state before anything was observed."""
        ...

    def update(self, state: State, seen: Observation) -> State:
        """Return the state after one observation, whose tensors must not be kept."""
        ...

    def result(self, state: State) -> Result:
        """Return what the state comes to."""
        ...


@final
@dataclass(frozen=True)
class Each:
    """The observer that hands every observation to a function and has no result.

    Attributes:
        place: where it looks.
        receive: called with each observation.
    """

    place: Place
    receive: Callable[[Observation], object]

    def init(self) -> None:
        """Return nothing, since the function keeps what it wants."""

    def update(self, state: None, seen: Observation) -> None:
        """Call the function."""
        self.receive(seen)

    def result(self, state: None) -> None:
        """Return nothing."""


def stream(model: nn.Module, inputs: Any, observers: Sequence[Observer[Any, Any]]) -> tuple[Any, ...]:
    """Run a network once over all batches and return what observers found.

    It runs in its own mode, with copies of its buffers.

    Args:
        model: any module; it is left as it was.
        inputs: as for :func:`iterate_inputs`; opened and read once.
        observers: what is measured.

    Returns:
        The result of each observer.

    Raises:
        SiteError: if an observer looks at a module that is never called.

    Example:
        >>> from liftscape.forward import Inputs
        >>> rows = []
        >>> _ = stream(nn.ReLU(), torch.ones(3, 2), [Each(Inputs([""]), lambda seen: rows.append(len(seen.tensor)))])
        >>> rows
        [3]
    """
    with observing(model, observers) as results, untouched(model), torch.no_grad():
        for batch in iterate_inputs(inputs):
            call_model(model, trainable_parameters(model), batch)
    return results()


@contextmanager
def observing(model: nn.Module, observers: Sequence[Observer[Any, Any]]) -> Generator[Callable[[], tuple[Any, ...]]]:
    """Let observers see every call of a network while the context lasts.

    Args:
        model: any module.
        observers: what is measured.

    Yields:
        What returns the results, afterwards.

    Raises:
        SiteError: if at the end an observer looks at a module that was never called.
    """
    states = [observer.init() for observer in observers]

    def deliver(index: int) -> Callable[[Observation], None]:
        def take(seen: Observation) -> None:
            states[index] = observers[index].update(states[index], seen)

        return take

    with ExitStack() as stack:
        for index, observer in enumerate(observers):
            stack.enter_context(observer.place.attached(model, deliver(index)))
        yield lambda: tuple(observer.result(state) for observer, state in zip(observers, states, strict=True))
