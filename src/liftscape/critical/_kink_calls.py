"""What functions with kinks read in one forward pass of model and loss, however they are spelt."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from liftscape._intercept import Intercept
from liftscape.activations import kind_of, kinks
from liftscape.critical._operations import SMOOTH, kinks_of_operation
from liftscape.functional import hooked
from liftscape.outcomes import ActivationError
from liftscape.risk import EmpiricalRisk

__all__ = ["KinkCall", "KinkCalls", "kink_orders", "recorded_calls"]

# One-sided derivatives are compared this far from a kink, relative to 1 + |t|; smaller jumps count as smooth.
_OFFSET = 1e-7
_JUMP = 1e-6
# By these, numbers leave torch and may come back as others.
_LEAVING = {Tensor.numpy, Tensor.tolist, Tensor.__array__}
_SPELT = {"_local_scalar_dense": "item()", "_to_copy": "a cast to whole numbers"}


@dataclass(frozen=True)
class KinkCall:
    """What one function with kinks read.

    Attributes:
        name: the module that calls it, or "the loss".
        orders: points by the order of the first derivative that jumps there.
        values: what it read.
        smooth: entries at which it has no kink after all, or None.
    """

    name: str
    orders: dict[float, int]
    values: Tensor
    smooth: Tensor | None = None


@dataclass(frozen=True)
class KinkCalls:
    """All such calls, and the operations on what depends on parameters that may have kinks nobody knows of.

    Attributes:
        calls: in the order of the forward pass.
        unlisted: names of operations.
    """

    calls: list[KinkCall]
    unlisted: set[str]


def kink_orders(function: Callable[[Tensor], Tensor], points: tuple[float, ...]) -> dict[float, int]:
    """Return, for each point, the order of the first derivative of σ that jumps there: 1 slope, 2 curvature.

    A jump of σ itself counts as order 1. Points where nothing jumps by more than 1e-6 are left out.

    Args:
        function: σ, elementwise.
        points: candidates, as :func:`liftscape.activations.kinks` names them.

    Returns:
        The orders by point.

    Example:
        >>> kink_orders(torch.relu, (0.0,)), kink_orders(torch.nn.ELU(), (0.0,)), kink_orders(torch.tanh, (0.0,))
        ({0.0: 1}, {0.0: 2}, {})
    """
    orders: dict[float, int] = {}
    for point in points:
        step = _OFFSET * (1 + abs(point))
        t = torch.tensor([point - step, point + step], dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            value = function(t.clone())
            slope = _derivative(value, t)
        if _jump(value) > _JUMP + 4 * step * float(slope.detach().abs().max()) or _jump(slope) > _JUMP:
            orders[point] = 1
        # Only now, since Hardsigmoid, whose slopes differ, has no second derivative in torch.
        elif _jump(_derivative(slope, t)) > _JUMP:
            orders[point] = 2
    return orders


def _jump(values: Tensor) -> float:
    """Return |right − left|."""
    return float((values[1] - values[0]).detach().abs())


def _derivative(value: Tensor, t: Tensor) -> Tensor:
    """Return the elementwise derivative, zero where the value is constant."""
    if not value.requires_grad:
        return torch.zeros_like(t)
    with torch.enable_grad():
        return torch.autograd.grad(value.sum(), t, create_graph=True, allow_unused=True, materialize_grads=True)[0]


def recorded_calls(risk: EmpiricalRisk, params: Mapping[str, Tensor], batch: Any) -> KinkCalls:
    """Run model and loss on one batch and keep what functions with kinks read.

    Args:
        risk: the empirical risk.
        params: θ by name.
        batch: (inputs, targets).

    Returns:
        The calls.
    """
    found, stack = KinkCalls([], set()), []
    with _named_modules(risk.model, stack), torch.no_grad():
        operations = _Operations(found, stack, list(params.values()))
        with operations, Intercept(_Functions(found, stack, operations).call):
            risk.batch_value(params, batch)
    return found


@final
class _Functions:
    """Keeps what activations read, which are known by their functions."""

    def __init__(self, found: KinkCalls, stack: list[str], operations: "_Operations") -> None:
        self._found, self._stack, self._operations = found, stack, operations

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function and note what it reads where it has kinks."""
        values = args[0] if args else kwargs.get("input")
        if not (isinstance(values, Tensor) and self._operations.depends(values)):
            return func(*args, **kwargs)
        if func in _LEAVING:
            self._found.unlisted.add(f"{func.__name__}()")
        with _disable_current_modes():
            calls = _calls_of_activation(func, args, kwargs, self._stack[-1] if self._stack else "the loss")
        if calls is None:
            return func(*args, **kwargs)
        self._found.calls.extend(calls)
        with self._operations.known():
            return func(*args, **kwargs)


class _Operations(TorchDispatchMode):
    """Follows what depends on parameters through all kernels and looks at those that may have kinks."""

    def __init__(self, found: KinkCalls, stack: list[str], parameters: list[Tensor]) -> None:
        super().__init__()
        self._found, self._stack = found, stack
        # Held until the end, since a storage that is freed gives its address to another one.
        self._held: list[Tensor] = list(parameters)
        self._dependent = {_storage(tensor) for tensor in parameters}
        self._known = False

    def depends(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is computed from parameters."""
        return _storage(tensor) in self._dependent

    @contextmanager
    def known(self) -> Generator[None, None, None]:
        """Follow what depends on parameters, but take the kernels' kinks as known, while the context lasts."""
        before, self._known = self._known, True
        try:
            yield
        finally:
            self._known = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        dependent = [operand for operand in operands if _storage(operand) in self._dependent]
        if not dependent:
            return func(*args, **kwargs)
        # Before the call, which may write into what it reads.
        self._look(
            func, args, kwargs, any(operand.is_floating_point() or operand.is_complex() for operand in dependent)
        )
        result = func(*args, **kwargs)
        if "_like" not in func.overloadpacket.__name__ and "new_" not in func.overloadpacket.__name__:
            written = operands[:1] if func._schema.is_mutable else []
            for leaf in (*written, *tree_leaves(result)):
                if isinstance(leaf, Tensor):
                    self._held.append(leaf)
                    self._dependent.add(_storage(leaf))
        return result

    def _look(self, func: Any, args: Any, kwargs: dict[str, Any], floating: bool) -> None:
        """Note the kinks of a kernel that reads numbers which depend on parameters."""
        name = func.overloadpacket.__name__
        name = name[:-1] if name.endswith("_") and not name.startswith("__") else name
        if self._known or not floating:
            return
        if name in SMOOTH and not _turns_whole(name, args, kwargs):
            return
        with _disable_current_modes():
            kinks_found = kinks_of_operation(name, args, kwargs)
        if kinks_found is None:
            self._found.unlisted.add(_SPELT.get(name, name))
            return
        label = self._stack[-1] if self._stack else "the loss"
        for values, points, order in kinks_found:
            if values.numel():
                self._found.calls.append(KinkCall(label, dict.fromkeys(points, order), values.detach().clone()))


def _storage(tensor: Tensor) -> int:
    """Return what tensors with the same memory share."""
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else id(tensor)


def _turns_whole(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Tell whether a kernel on the list rounds: to whole numbers, or out of the graph."""
    if name in {"_to_copy", "to"}:
        dtype = kwargs.get("dtype")
        return dtype is not None and not (dtype.is_floating_point or dtype.is_complex)
    return name == "_local_scalar_dense" or (name == "div" and kwargs.get("rounding_mode") is not None)


def _calls_of_activation(func: Any, args: Any, kwargs: dict[str, Any], name: str) -> list[KinkCall] | None:
    """Describe a call of an activation, with or without kinks; None for any other function."""
    values, rest = (args[0], args[1:]) if args else (kwargs.get("input"), ())
    parameters = {key: entry for key, entry in kwargs.items() if key != "input"}
    if not isinstance(values, Tensor) or not values.is_floating_point():
        return None
    try:
        kind = kind_of(func, *rest, **parameters)
        points = kinks(func, *rest, **parameters)
    except (ActivationError, RuntimeError):
        return None
    if kind.name == "prelu":
        return [_prelu(name, values, torch.as_tensor(kind.parameters["weight"]))] if points else []
    orders = kink_orders(lambda t: func(t, *rest, **parameters), points) if points else {}
    return [KinkCall(name, orders, values.detach().clone())] if orders else []


def _prelu(name: str, values: Tensor, weight: Tensor) -> KinkCall:
    """Describe a call of PReLU, whose channels with slope one are smooth."""
    smooth = (weight.detach() == 1).reshape(1, -1, *[1] * (values.ndim - 2)) if values.ndim > 1 else weight == 1
    return KinkCall(name, {0.0: 1}, values.detach().clone(), smooth.expand(values.shape))


@contextmanager
def _named_modules(model: nn.Module, stack: list[str]) -> Generator[None, None, None]:
    """Keep the names of the running modules on a stack while the context lasts."""
    enter = lambda label: lambda *_: stack.append(label)
    enters = [(module, enter(name or type(model).__name__)) for name, module in model.named_modules()]
    with hooked(enters, [(module, lambda *_: stack.__delitem__(-1)) for module in model.modules()]):
        yield
