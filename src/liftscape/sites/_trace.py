"""What calls what in one forward pass: modules and functional calls alike, by the identity of the tensors they pass."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from liftscape.functional import call_model, inputs_named, trainable_parameters, untouched
from liftscape.sites._labels import CallLabels

__all__ = ["Event", "Trace", "trace_call"]


@dataclass(frozen=True)
class Event:
    """One call of a leaf module, or of a function outside every leaf module.

    Attributes:
        name: the module's name, or the function's.
        label: the name of the call: of the module, or of the one that calls with the function's, and its number.
        function: the module or function itself.
        reads: identities of the tensors read.
        makes: identities of the tensors made.
        arguments: the call's further positional arguments, for a function.
        keywords: the call's keyword arguments, for a function.
        hands_on: whether it returns a tensor that it reads as it was, as Identity and inactive dropout do.
        axes: of the tensor it makes; 0 where that is none, or several.
    """

    name: str
    label: str
    function: Any
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    hands_on: bool = False
    axes: int = 0

    @property
    def is_module(self) -> bool:
        """Whether a module was called."""
        return isinstance(self.function, nn.Module)


@dataclass
class Trace:
    """The events of one forward pass in their order.

    Attributes:
        events: the calls.
        outputs: identities of the tensors that the model returned.
        parameters: identities of the tensors that stood for the trainable parameters, by those of the parameters.
    """

    events: list[Event] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    parameters: dict[int, int] = field(default_factory=dict)

    def readers(self, tensor: int) -> list[Event]:
        """Return the events that read a tensor.

        Args:
            tensor: its identity.

        Returns:
            The events in their order.
        """
        return [event for event in self.events if tensor in event.reads]

    def maker(self, tensor: int) -> Event | None:
        """Return the event that made a tensor.

        Args:
            tensor: its identity.

        Returns:
            The last such event, or None for an input of the model.
        """
        return next((event for event in reversed(self.events) if tensor in event.makes), None)


class _Recorder(TorchFunctionMode):
    """Records what the model calls outside leaf modules; keeps tensors alive so that identities stay unique."""

    def __init__(self, labels: CallLabels) -> None:
        super().__init__()
        self.trace = Trace()
        self.alive: list[Any] = []
        self.running = False
        self.inside = 0
        self.places: list[str] = []
        self.labels = labels

    def record(
        self,
        name: str,
        function: Any,
        before: dict[int, int],
        reads: Any,
        makes: Any,
        /,
        *arguments: Any,
        **keywords: Any,
    ) -> None:
        """Append one event, with the versions that its inputs had before."""
        self.alive.append((reads, makes))
        place = self.places[-1] if self.places else ""
        is_module = isinstance(function, nn.Module)
        label = self.labels.next_module(name) if is_module else self.labels.next(place, name)
        # What is written in place gets another version.
        same = isinstance(makes, Tensor) and before.get(id(makes)) == makes._version
        axes = makes.ndim if isinstance(makes, Tensor) else 0
        made = Event(name, label, function, _identities(reads), _identities(makes), arguments, keywords, same, axes)
        self.trace.events.append(made)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.running or self.inside:
            return func(*args, **kwargs)
        before = _versions((args, kwargs))
        result = func(*args, **kwargs)
        # What writes into a tensor and returns nothing, as h[:, 0] = 1 does, makes that tensor anew.
        given = (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        made = [leaf for leaf in given if leaf._version != before[id(leaf)]] if result is None else result
        if _identities(made):
            name = getattr(func, "__name__", str(func))
            self.record(name, func, before, (args, kwargs), made, *args[1:], **kwargs)
        return result


def trace_call(model: nn.Module, inputs: Any) -> Trace:
    """Run the model once on one batch and record its calls; the model is left as it was.

    Args:
        model: any module.
        inputs: one batch of inputs.

    Returns:
        The events.

    Raises:
        ModelError: if the model raises on the batch.
    """
    recorder = _Recorder(CallLabels(model))
    params = trainable_parameters(model)
    own = dict(model.named_parameters())
    recorder.trace.parameters = {id(own[name]): id(tensor) for name, tensor in params.items()}
    with untouched(model), inputs_named(model, inputs), _leaf_hooks(model, recorder), recorder:
        output = call_model(model, params, inputs)
    recorder.trace.outputs = _identities(output)
    return recorder.trace


def _identities(value: Any) -> tuple[int, ...]:
    """Return the identities of the tensors in a nesting."""
    return tuple(id(leaf) for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _versions(value: Any) -> dict[int, int]:
    """Return how often the tensors in a nesting have been written, by their identities."""
    return {id(leaf): leaf._version for leaf in tree_leaves(value) if isinstance(leaf, Tensor)}


@contextmanager
def _leaf_hooks(model: nn.Module, recorder: _Recorder) -> Generator[None, None, None]:
    """Record calls of modules without children, and who calls what else, while the context lasts."""
    versions: dict[int, int] = {}

    def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
        recorder.inside += 1
        versions.clear()
        versions.update(_versions((args, kwargs)))

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            recorder.inside -= 1
            recorder.record(name, module, versions, (args, kwargs), output)

        return hook

    def begin(_module: nn.Module, _args: Any) -> None:
        recorder.running = True

    def within(name: str) -> Callable[..., None]:
        return lambda _module, _args: recorder.places.append(name)

    def without(_module: nn.Module, _args: Any, _output: Any) -> None:
        recorder.places.pop()

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(begin).remove)
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(within(name)).remove)
            stack.callback(module.register_forward_hook(without, always_call=True).remove)
            if name and next(module.children(), None) is None:
                stack.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(leave(name), with_kwargs=True).remove)
        yield
