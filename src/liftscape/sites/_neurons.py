"""The pre-activations of activations, modules and functions alike, one column for each neuron."""

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, final
from weakref import ref

from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from liftscape.outcomes import SiteError
from liftscape.sites._features import run_batches
from liftscape.sites._labels import CallLabels

__all__ = ["Receive", "hearing_neurons", "stream_neurons"]

# Name, the module or function, the call's further arguments, and the pre-activations.
Receive = Callable[[str, Any, tuple[Any, ...], dict[str, Any], Float[Tensor, "rows neurons"]], None]

_CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding)


def stream_neurons(model: nn.Module, names: Sequence[str], inputs: Any, receive: Receive) -> None:
    """Hand the pre-activations that reach activation modules to a receiver, call by call, over all batches.

    Args:
        model: any module; it is left as it was.
        names: activation modules.
        inputs: as for :func:`iterate_inputs`.
        receive: called with the name, the module, nothing and the pre-activations.
    """
    with hearing_neurons(model, names, receive):
        run_batches(model, inputs)


@contextmanager
def hearing_neurons(
    model: nn.Module,
    names: Sequence[str],
    receive: Receive,
    is_activation: Callable[[Any], bool] | None = None,
) -> Generator[None]:
    """Hand the pre-activations that reach activations to a receiver, whenever the model is called.

    The places of a channel are samples of one neuron. Channels are on axis 1 where a convolution or a norm over such
    channels made the tensor, on the last axis where a Linear or a LayerNorm did; else on axis 1 from four axes on.
    Functions have the name of the module that calls them, then their own, then their number where there are several;
    where functions are heard, calls of one module are numbered too.

    Args:
        model: any module.
        names: activation modules.
        receive: called with the name, the module or function, the call's further arguments and the pre-activations.
        is_activation: tells the functions that are wanted as well; none when None.

    Yields:
        Nothing.

    Raises:
        SiteError: if at the end a named module was never called, unless functions are wanted as well.
    """
    seen: set[str] = set()

    def take(name: str, activation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], t: Tensor) -> None:
        # A receiver may call the activation itself.
        with nullcontext() if listener is None else listener.deaf():
            # A PReLU with several slopes has them along axis 1, whatever made the tensor.
            own = isinstance(activation, nn.PReLU) and activation.num_parameters > 1
            receive(name, activation, args, kwargs, axes.rows(t, own))

    def before(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, args: Any) -> None:
            seen.add(name)
            take(name if listener is None else listener.labels.next_module(name), module, (), {}, args[0])

        return hook

    with ExitStack() as stack:
        axes = stack.enter_context(_Axes(model))
        listener = _Listener(model, names, is_activation, take) if is_activation is not None else None
        # Before the call, since an activation in place overwrites what it reads.
        for name in names:
            stack.callback(model.get_submodule(name).register_forward_pre_hook(before(name)).remove)
        if listener is not None:
            stack.enter_context(listener.places)
            stack.enter_context(listener)
        yield
    for name in names:
        # Whoever asks for all activations there are takes those that the model leaves uncalled as absent.
        if name not in seen and is_activation is None:
            raise SiteError(f"module '{name}' is never called on these inputs, so no features reach it.")


@final
class _Axes(ExitStack):
    """Knows on which axis a tensor has its neurons, by what made it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # Weakly, so that no activation outlives its use; an identity may be another tensor's by then.
        self._made: dict[int, tuple[ref[Tensor], bool]] = {}
        for module in model.modules():
            if isinstance(module, (*_CHANNELS_FIRST, *_CHANNELS_LAST)):
                hook = module.register_forward_hook(self._note(isinstance(module, _CHANNELS_FIRST)))
                self.callback(hook.remove)

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
class _Listener(TorchFunctionMode):
    """Hears the activations that are called as functions, outside the modules that are heard anyway."""

    def __init__(
        self, model: nn.Module, names: Collection[str], is_activation: Callable[[Any], bool], take: Receive
    ) -> None:
        super().__init__()
        self._is_activation, self._take = is_activation, take
        self._inside: list[str] = []
        self._hears = True
        self.labels = CallLabels(model)
        self.places = ExitStack()
        heard = {id(model.get_submodule(name)) for name in names}
        for name, module in model.named_modules():
            enter = module.register_forward_pre_hook(self._enter("" if id(module) in heard else f"{name}."))
            self.places.callback(enter.remove)
            self.places.callback(module.register_forward_hook(self._leave, always_call=True).remove)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # An empty place is within a module that is heard by its own hook.
        place = self._inside[-1] if self._inside and self._hears else ""
        if place and self._is_activation(func):
            name = self.labels.next(place.rstrip("."), func.__name__)
            if args and isinstance(args[0], Tensor) and args[0].ndim >= 2:
                further = {key: value for key, value in kwargs.items() if key != "inplace"}
                self._take(name, func, tuple(args[1:]), further, args[0])
        return func(*args, **kwargs)

    @contextmanager
    def deaf(self) -> Generator[None]:
        """Hear nothing while the context lasts."""
        before, self._hears = self._hears, False
        try:
            yield
        finally:
            self._hears = before

    def _enter(self, place: str) -> Callable[[nn.Module, Any], None]:
        def enter(_module: nn.Module, _args: Any) -> None:
            if not self._inside:
                self.labels.clear()
            self._inside.append(place)

        return enter

    def _leave(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self._inside.pop()
