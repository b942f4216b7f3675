"""One forward pass, recorded: modules and functions alike, by the identity of the tensors they pass."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from liftscape._intercept import Intercept
from liftscape.forward._affine import AFFINE
from liftscape.forward._attributes import attributes_read
from liftscape.forward._input_batches import first_batch
from liftscape.forward._labels import CallLabels
from liftscape.forward._modules import facts_of
from liftscape.forward._operation_table import is_random
from liftscape.forward._pass import Call, ForwardPass
from liftscape.functional import (
    call_model,
    few_samples,
    hooked,
    inputs_named,
    require_module,
    trainable_parameters,
    untouched,
)
from liftscape.outcomes import ModelError

__all__ = ["record"]


def record(model: nn.Module, inputs: Any) -> ForwardPass:
    """Record what a network calls on the first samples, or on the whole first batch where it does not take fewer.

    Args:
        model: any module; it is left as it was.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, opened once; or the head of such data.

    Returns:
        The calls.

    Raises:
        ModelError: if `model` is not an nn.Module, is on the meta device, or raises on the batch.

    Example:
        >>> import torch
        >>> passed = record(nn.Sequential(nn.Linear(1, 2), nn.Tanh()), torch.zeros(3, 1))
        >>> [(call.name, call.shape) for call in passed.calls], [call.name for call in passed.functions]
        ([('0', (2, 2)), ('1', (2, 2))], ['linear', 'tanh'])
    """
    batch = first_batch(inputs)
    require_module(model)
    try:
        recorder = _recorded(model, few_samples(batch))
    except ModelError:
        recorder = _recorded(model, batch)
    called = {id(call.function) for call in recorder.calls}
    facts = facts_of(model)
    replaceable = [
        name
        for name, module in model.named_modules()
        if name and isinstance(module, AFFINE) and facts[name].replaceable and id(module) in called
    ]
    return ForwardPass(
        model,
        tuple(recorder.calls),
        tuple(recorder.functions),
        recorder.outputs,
        recorder.parameters,
        recorder.names,
        attributes_read(model, replaceable, batch),
    )


@final
class _Recorder:
    """Notes calls; keeps tensors alive so that identities stay unique."""

    def __init__(self, model: nn.Module) -> None:
        self.calls: list[Call] = []
        self.functions: list[Call] = []
        self.outputs: tuple[int, ...] = ()
        self.parameters: dict[int, int] = {}
        self.names: dict[int, str] = {}
        self.running = False
        self.inside = 0
        self.callers: list[str] = []
        self._alive: list[Any] = []
        self._labels = CallLabels(model)
        self._own = [id(tensor) for _, tensor in _named_tensors(model)]

    def begin(self, model: nn.Module, _args: Any) -> None:
        """Note which tensors stand for parameters and buffers in this call."""
        self.running = True
        given = _named_tensors(model)
        self._alive.append(given)
        self.parameters = dict(zip(self._own, (id(tensor) for _, tensor in given), strict=True))
        for name, tensor in given:
            self.names.setdefault(id(tensor), name)

    def add(
        self,
        name: str,
        function: Any,
        before: dict[int, int],
        given: tuple[tuple[Any, ...], dict[str, Any]],
        makes: Any,
    ) -> None:
        """Append one call, with the versions that its inputs had before."""
        self._alive.append((given, makes))
        is_module = isinstance(function, nn.Module)
        label = ""
        if is_module:
            label = self._labels.next_module(name)
        elif not self.inside:
            label = self._labels.next(self.callers[-1] if self.callers else "", name)
        args, kwargs = given
        call = Call(
            name,
            label,
            function,
            _identities(given),
            _identities(makes),
            () if is_module else tuple(args[1:]),
            {} if is_module else kwargs,
            # What is written in place gets another version.
            isinstance(makes, Tensor) and before.get(id(makes)) == makes._version,
            tuple(makes.shape) if isinstance(makes, Tensor) else (),
            not is_module and is_random(function, args, kwargs),
        )
        if not is_module:
            self.functions.append(call)
        if is_module or not self.inside:
            self.calls.append(call)

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function and note it."""
        if not self.running:
            return func(*args, **kwargs)
        before = _versions((args, kwargs))
        result = func(*args, **kwargs)
        # What writes into a tensor and returns nothing, as h[:, 0] = 1 does, makes that tensor anew.
        given = (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        made = [leaf for leaf in given if leaf._version != before[id(leaf)]] if result is None else result
        if _identities(made):
            self.add(getattr(func, "__name__", str(func)), func, before, (args, kwargs), made)
        return result


def _recorded(model: nn.Module, batch: Any) -> _Recorder:
    """Run a network once on one batch."""
    recorder = _Recorder(model)
    with untouched(model), inputs_named(model, batch), _hooks(model, recorder), Intercept(recorder.call):
        output = call_model(model, trainable_parameters(model), batch)
    recorder.outputs = _identities(output)
    return recorder


def _named_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Return parameters and buffers with all of their names."""
    return [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]


def _identities(value: Any) -> tuple[int, ...]:
    """Return the identities of the tensors in a nesting."""
    return tuple(id(leaf) for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _versions(value: Any) -> dict[int, int]:
    """Return how often the tensors in a nesting have been written, by their identities."""
    return {id(leaf): leaf._version for leaf in tree_leaves(value) if isinstance(leaf, Tensor)}


@contextmanager
def _hooks(model: nn.Module, recorder: _Recorder) -> Generator[None]:
    """Note calls of modules without children, and who calls what else, while the context lasts."""
    versions: dict[int, int] = {}

    def enter(_module: nn.Module, args: Any, kwargs: Any) -> None:
        recorder.inside += 1
        versions.clear()
        versions.update(_versions((args, kwargs)))

    def leave(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            recorder.inside -= 1
            recorder.add(name, module, versions, (args, kwargs), output)

        return hook

    def within(name: str) -> Callable[..., None]:
        return lambda _module, _args: recorder.callers.append(name)

    def without(_module: nn.Module, _args: Any, _output: Any) -> None:
        recorder.callers.pop()

    modules = list(model.named_modules())
    leaves = [(name, module) for name, module in modules if name and next(module.children(), None) is None]
    callers = [(module, within(name)) for name, module in modules]
    with (
        hooked([(model, recorder.begin), *callers], [(module, without) for _, module in modules], always=True),
        hooked([(leaf, enter) for _, leaf in leaves], [(leaf, leave(name)) for name, leaf in leaves], with_kwargs=True),
    ):
        yield
