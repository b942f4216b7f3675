"""The pre-activations of activations, modules and functions alike, one column for each neuron."""

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, final
from weakref import ref

from jaxtyping import Float
from torch import Tensor, nn

from liftscape._intercept import Intercept
from liftscape.forward._labels import CallLabels
from liftscape.forward._places import Deliver, Observation, require_calls
from liftscape.functional import hooked

__all__ = ["Neurons"]

_CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding)
# Name, the module or function, the call's further arguments, and the tensor.
_Take = Callable[[str, Any, tuple[Any, ...], dict[str, Any], Tensor], None]


@final
@dataclass(frozen=True)
class Neurons:
    """The pre-activations that reach activations, one row for each sample and place, one column for each neuron.

    The places of a channel are samples of one neuron. Channels are on axis 1 where a convolution or a norm over such
    channels made the tensor, on the last axis where a Linear or a LayerNorm did; else on axis 1 from four axes on.
    Functions have the name of the module that calls them, then their own, then their number where there are several;
    where functions are wanted, calls of one module are numbered too.

    Attributes:
        names: activation modules.
        is_activation: tells the functions that are wanted as well; none when None.
    """

    names: Sequence[str]
    is_activation: Callable[[Any], bool] | None = None

    @contextmanager
    def attached(self, model: nn.Module, deliver: Deliver) -> Generator[None]:
        """Deliver while the context lasts, and raise at its end if a named module was never called.

        Where functions are wanted as well, a module that is never called is left out.
        """
        seen: set[str] = set()

        def take(name: str, activation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], t: Tensor) -> None:
            # A receiver may call the activation itself.
            with nullcontext() if functions is None else functions.paused():
                # A PReLU with several slopes has them along axis 1, whatever made the tensor.
                by_channel = isinstance(activation, nn.PReLU) and activation.num_parameters > 1
                deliver(Observation(name, axes.rows(t, by_channel), None, "", activation, args, kwargs))

        def before(name: str) -> Callable[[nn.Module, Any], None]:
            def hook(module: nn.Module, args: Any) -> None:
                seen.add(name)
                take(name if functions is None else functions.labels.next_module(name), module, (), {}, args[0])

            return hook

        with ExitStack() as stack:
            axes = _Axes()
            stack.enter_context(hooked(after=axes.notes(model)))
            functions = None if self.is_activation is None else _Functions(model, self.is_activation, take)
            # Before the call, since an activation in place overwrites what it reads.
            stack.enter_context(hooked(before=[(model.get_submodule(name), before(name)) for name in self.names]))
            if functions is not None:
                stack.enter_context(functions.following(model, self.names))
                stack.enter_context(Intercept(functions.call))
            yield
        if functions is None:
            require_calls(self.names, seen)


@final
class _Axes:
    """Knows on which axis a tensor has its neurons, by what made it."""

    def __init__(self) -> None:
        # Weakly, so that no activation outlives its use; an identity may be another tensor's by then.
        self._made: dict[int, tuple[ref[Tensor], bool]] = {}

    def notes(self, model: nn.Module) -> list[tuple[nn.Module, Callable[[nn.Module, Any, Any], None]]]:
        """Return what is to be called after the modules that make such tensors."""
        return [
            (module, self._note(isinstance(module, _CHANNELS_FIRST)))
            for module in model.modules()
            if isinstance(module, (*_CHANNELS_FIRST, *_CHANNELS_LAST))
        ]

    def rows(self, tensor: Tensor, channels_first: bool = False) -> Float[Tensor, "rows neurons"]:
        """Return a tensor outside the graph with its neurons as columns."""
        maker, first = self._made.get(id(tensor), (None, False))
        first = first if maker is not None and maker() is tensor else tensor.ndim >= 4
        first = first or channels_first
        turned = tensor.detach().movedim(1, -1) if first and tensor.ndim > 2 else tensor.detach()
        return turned.reshape(-1, turned.shape[-1])

    def _note(self, first: bool) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _args, output: self._made.update({id(output): (ref(output), first)})


@final
class _Functions:
    """Finds the activations that are called as functions, outside the modules that are observed anyway."""

    def __init__(self, model: nn.Module, is_activation: Callable[[Any], bool], take: _Take) -> None:
        self._is_activation, self._take = is_activation, take
        self._inside: list[str] = []
        self._active = True
        self.labels = CallLabels(model)

    def following(self, model: nn.Module, names: Collection[str]) -> AbstractContextManager[None]:
        """Return the context in which the running modules are followed."""
        observed = {id(model.get_submodule(name)) for name in names}
        enters = [
            (module, self._enter("" if id(module) in observed else f"{name}."))
            for name, module in model.named_modules()
        ]
        return hooked(enters, [(module, self._leave) for module in model.modules()], always=True)

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function, and take what it reads if it is an activation."""
        # An empty name stands for a module that is observed by its own hook.
        caller = self._inside[-1] if self._inside and self._active else ""
        if caller and self._is_activation(func):
            name = self.labels.next(caller.rstrip("."), func.__name__)
            if args and isinstance(args[0], Tensor) and args[0].ndim >= 2:
                further = {key: value for key, value in kwargs.items() if key != "inplace"}
                self._take(name, func, tuple(args[1:]), further, args[0])
        return func(*args, **kwargs)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Take nothing while the context lasts."""
        before, self._active = self._active, False
        try:
            yield
        finally:
            self._active = before

    def _enter(self, caller: str) -> Callable[[nn.Module, Any], None]:
        def enter(_module: nn.Module, _args: Any) -> None:
            if not self._inside:
                self.labels.clear()
            self._inside.append(caller)

        return enter

    def _leave(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self._inside.pop()
