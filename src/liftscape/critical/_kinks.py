"""How far the data are from the points where the network is not smooth."""

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from liftscape.activations import kind_of, kinks
from liftscape.outcomes import ActivationError, Outcome
from liftscape.risk import EmpiricalRisk

__all__ = ["KinkMargin", "kink_margin", "kink_orders"]

# One-sided derivatives are compared this far from a kink, relative to 1 + |t|; smaller jumps count as smooth.
_OFFSET = 1e-7
_JUMP = 1e-6
# A pre-activation is on a kink when rounding of the sums that make it could have put it there.
_ON_KINK = 100.0
_NUDGE = 1e-4


@dataclass(frozen=True)
class KinkMargin(Outcome):
    """The pre-activations nearest to a kink, over all samples and layers.

    Attributes:
        margin: smallest distance to a point where slopes differ; inf where there is none.
        layer: the module that calls the function, or "the loss"; None where there is none.
        on_kink: number of pre-activations on such a point, to rounding, that move with the parameters.
        curvature_margin: smallest distance to a point where only the curvature jumps, as for ELU at 0.
        curvature_layer: where it is found.
        on_curvature_kink: number of pre-activations on such a point.
        crossing: whether a pre-activation may cross a kink of either kind on the way to the displaced parameters.
    """

    margin: float = inf
    layer: str | None = None
    on_kink: int = 0
    curvature_margin: float = inf
    curvature_layer: str | None = None
    on_curvature_kink: int = 0
    crossing: bool = False


@dataclass(frozen=True)
class _Call:
    """What one kinked function read: points by their order, and the values."""

    name: str
    orders: dict[float, int]
    values: Tensor
    smooth: Tensor | None


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


def kink_margin(
    risk: EmpiricalRisk, displaced: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
) -> KinkMargin:
    """Return the smallest distance of any pre-activation on the data to a point where the function it enters is not C².

    Seen are all activations of torch.nn in every spelling (module, function, Tensor method), clamps and absolute
    values, in the model and in the loss, batch by batch. A pre-activation that stays on its kink when all parameters
    move, such as one that is zero for every θ, does not make R non-smooth and is left out.

    Source: theory T5 (a), derived.

    Args:
        risk: the empirical risk; its model is left as it was.
        displaced: other parameters, towards which crossings are looked for.
        generator: source of the nudge that tells which pre-activations move; seed 0 when None.

    Returns:
        The margins with the layers in which they are found.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
        >>> _ = model[0].weight.data.fill_(1.0), model[0].bias.data.fill_(0.25)
        >>> found = kink_margin(EmpiricalRisk(model, "mse", (torch.ones(3, 1), torch.ones(3, 1))))
        >>> found.margin, found.layer
        (1.25, '1')
    """
    own = risk.parameters
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    nudged = {name: tensor + _nudge(tensor, generator) for name, tensor in own.items()}
    points = [own, nudged] if displaced is None else [own, nudged, displaced]
    found = KinkMargin()
    for batch in risk.batches:
        runs = [_recorded(risk, params, batch) for params in points]
        for calls in zip(*runs, strict=False):
            found = _merge(found, *calls)
    return found


def _nudge(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a small move of one parameter."""
    draw = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    return (_NUDGE * (1 + tensor.abs().mean().cpu()) * draw).to(tensor)


def _merge(found: KinkMargin, call: _Call, nudged: _Call, displaced: _Call | None = None) -> KinkMargin:
    """Take one call into account."""
    if call.values.shape != nudged.values.shape or not call.values.numel():
        return found
    rounding = _ON_KINK * torch.finfo(call.values.dtype).eps * max(1.0, float(call.values.abs().max()))
    fields = dict(vars(found))
    for point, order in call.orders.items():
        distance = (call.values - point).abs()
        on = distance <= rounding
        left_out = on & ((nudged.values - point).abs() <= rounding)
        if call.smooth is not None:
            left_out |= call.smooth
        distance = distance.masked_fill(left_out, inf)
        nearest, kind = float(distance.min()), "" if order == 1 else "curvature_"
        if nearest < fields[f"{kind}margin"]:
            fields[f"{kind}margin"], fields[f"{kind}layer"] = nearest, call.name
        fields["on_kink" if order == 1 else "on_curvature_kink"] += int((on & ~left_out).sum())
        if displaced is not None and displaced.values.shape == call.values.shape:
            fields["crossing"] |= bool((distance <= 10 * (displaced.values - call.values).abs()).any())
    return KinkMargin(**fields)


def _recorded(risk: EmpiricalRisk, params: Mapping[str, Tensor], batch: Any) -> list[_Call]:
    """Run model and loss on one batch and keep what kinked functions read."""
    recorder = _Recorder()
    with _named_modules(risk.model, recorder.stack), torch.no_grad(), recorder:
        risk.batch_value(params, batch)
    return recorder.calls


class _Recorder(TorchFunctionMode):
    """Keeps the arguments of kinked functions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.stack: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        call = _kinked_call(func, args, kwargs, self.stack)
        if call is not None:
            self.calls.append(call)
        return func(*args, **kwargs)


def _kinked_call(func: Any, args: Any, kwargs: dict[str, Any], stack: list[str]) -> _Call | None:
    """Describe a call of a function that has kinks; None for any other."""
    values, rest = (args[0], args[1:]) if args else (kwargs.get("input"), ())
    parameters = {key: entry for key, entry in kwargs.items() if key != "input"}
    if not isinstance(values, Tensor) or not values.is_floating_point():
        return None
    spelt = getattr(func, "__name__", str(func))
    name = stack[-1] if stack else "the loss"
    if spelt == "l1_loss":
        return _Call("the loss", {0.0: 1}, values.detach() - (rest[0] if rest else kwargs["target"]), None)
    try:
        kind = kind_of(func, *rest, **parameters)
        points = kinks(func, *rest, **parameters)
    except (ActivationError, RuntimeError):
        return None
    if kind.name == "prelu":
        return _prelu(name, values, torch.as_tensor(kind.parameters["weight"])) if points else None
    orders = kink_orders(lambda t: func(t, *rest, **parameters), points) if points else {}
    return _Call(name, orders, values.detach().clone(), None) if orders else None


def _prelu(name: str, values: Tensor, weight: Tensor) -> _Call:
    """Describe a call of PReLU, whose channels with slope one are smooth."""
    smooth = (weight.detach() == 1).reshape(1, -1, *[1] * (values.ndim - 2)) if values.ndim > 1 else weight == 1
    return _Call(name, {0.0: 1}, values.detach().clone(), smooth.expand(values.shape))


@contextmanager
def _named_modules(model: nn.Module, stack: list[str]) -> Generator[None, None, None]:
    """Keep the names of the running modules on a stack while the context lasts."""
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            label = name or type(model).__name__
            hooks.callback(module.register_forward_pre_hook(lambda *_, label=label: stack.append(label)).remove)
            hooks.callback(module.register_forward_hook(lambda *_: stack.__delitem__(-1)).remove)
        yield
