"""Which maps read a layer's neurons, one by one, and nothing else does.

A width embedding copies a neuron's output and shares out its out-weights, so every use of the neuron must be seen: the
forward pass is written down as a list of steps, and the neurons are followed through it.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from liftscape.outcomes import SiteError
from liftscape.risk import copy_model
from liftscape.sites import first_batch

__all__ = ["find_readers"]

_ACTIVATIONS = (
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish softplus softsign softshrink hardshrink tanhshrink "
    "hardtanh hardswish hardsigmoid threshold logsigmoid log_sigmoid sigmoid expit tanh sin cos exp erf abs square sqrt"
)
_ARITHMETIC = (
    "add radd iadd sub rsub isub mul rmul imul div truediv rtruediv itruediv pow rpow ipow neg clamp clamp_min "
    "clamp_max clip where gt lt ge le maximum minimum clone contiguous identity"
)
_POINTWISE = frozenset(f"{_ACTIVATIONS} {_ARITHMETIC}".split())
# What keeps the channels of pictures apart; flattened, each is a block of features.
_POOLS = "max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d"
_CHANNELWISE = frozenset(f"{_POOLS} flatten view reshape".split())
_RANDOM = {"dropout": (2, True), "alpha_dropout": (2, False), "feature_alpha_dropout": (2, False), "rrelu": (3, False)}
_NOT_TENSORS = frozenset(("size", "dim", "getattr", "numel", "stride", "is_floating_point"))
_RETURN = "return"


@dataclass(frozen=True)
class _Step:
    """One function call of the forward pass: parameters are named by strings, other tensors by numbers or nodes."""

    function: str
    operands: tuple[Hashable, ...]
    result: Hashable
    random: bool = False


@dataclass(frozen=True)
class _Trace:
    """The steps of a forward pass, and which of the tensors in it hold a single number."""

    steps: list[_Step]
    scalars: frozenset[Hashable]


def find_readers(model: nn.Module, at: str, inputs: Any = None) -> tuple[str, ...]:
    """Return the names of the maps that read the neurons of `at` through pointwise functions only.

    The neurons z_j = w_j·h + b_j may pass through activations, arithmetic with numbers and inactive dropout, the
    channels of a Conv2d also through pools and a flattening; whatever else touches them, or ends the network with
    them, is named in the refusal.

    Source: the hypothesis of the width embeddings of Zhang et al. 2021 (arXiv 2105.14573), with shared maps and
    several readers, theory §6.

    Args:
        model: any module; a copy of it is traced.
        at: the name of a Linear or Conv2d.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, of which the first records the pass; without
            them the model is traced symbolically, which holds for all inputs and fails where the forward pass branches
            on tensors. A Conv2d needs them.

    Returns:
        The readers' names in the order in which they are called.

    Raises:
        SiteError: if the neurons are used otherwise, or the model cannot be traced.

    Example:
        >>> find_readers(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), "0")
        ('2',)
    """
    if inputs is None and isinstance(dict(model.named_modules()).get(at), nn.Conv2d):
        raise SiteError(f"the channels of '{at}' are followed through a recorded forward pass; pass inputs=.")
    trace = _symbolic_trace(copy_model(model), at) if inputs is None else _recorded_trace(model, inputs)
    return _follow(trace, model, at)


def _follow(trace: _Trace, model: nn.Module, at: str) -> tuple[str, ...]:
    """Follow the neurons of `at` through the steps to the maps that read them."""
    call_of: dict[Hashable, int] = {}
    readers: dict[str, None] = {}
    other_uses: dict[Hashable, str] = {}
    channels = isinstance(model.get_submodule(at), nn.Conv2d)
    for index, step in enumerate(trace.steps):
        calls = {call_of[operand] for operand in step.operands if operand in call_of}
        module = _map_of(step, model)
        if calls and module == at:
            _refuse(at, f"reads its own neurons in {step.function}")
        if module == at:
            call_of[step.result] = index
            continue
        if calls and module is not None and step.operands[0] in call_of:
            readers[module] = None
            continue
        other_uses.update((operand, step.function) for operand in step.operands if isinstance(operand, str))
        if calls:
            _require_apart(step, calls, call_of, trace.scalars, at, channels)
            call_of[step.result] = calls.pop()
    for name in (at, *readers):
        for parameter in (f"{name}.weight", f"{name}.bias"):
            if parameter in other_uses:
                _refuse(at, f"needs {parameter} for itself, but {other_uses[parameter]} uses it with other features")
    if not readers:
        _refuse(at, "has no neurons that a following map reads")
    return tuple(readers)


def _require_apart(
    step: _Step,
    calls: set[int],
    call_of: Mapping[Hashable, int],
    scalars: frozenset[Hashable],
    at: str,
    channels: bool,
) -> None:
    """Raise unless the step acts on each neuron, or channel, by itself."""
    if step.function == _RETURN:
        _refuse(at, "ends the network: its neurons are outputs")
    if step.random:
        _refuse(at, f"has neurons that pass through random {step.function}; call model.eval()")
    foreign = [operand for operand in step.operands if operand not in call_of and operand not in scalars]
    inactive_dropout = step.function in _RANDOM
    apart = step.function in _POINTWISE or (channels and step.function in _CHANNELWISE)
    if (not apart and not inactive_dropout) or foreign or len(calls) > 1:
        _refuse(at, f"has neurons that are mixed or joined with other tensors by {step.function}")


def _refuse(at: str, reason: str) -> NoReturn:
    """Raise with the reason why the neurons of `at` cannot be copied."""
    raise SiteError(
        f"the neurons of '{at}' must reach one or more maps through pointwise functions only, but '{at}' {reason}; "
        "choose another layer."
    )


def _map_of(step: _Step, model: nn.Module) -> str | None:
    """Return the name of the Linear or Conv2d that the step calls, if it is one."""
    kind = {"linear": nn.Linear, "conv2d": nn.Conv2d}.get(step.function)
    if kind is None or len(step.operands) < 2 or not isinstance(step.operands[1], str):
        return None
    name = step.operands[1].removesuffix(".weight")
    return name if isinstance(dict(model.named_modules()).get(name), kind) else None


def _is_random(function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether a dropout-like function is active."""
    if function not in _RANDOM:
        return False
    position, default = _RANDOM[function]
    return bool(kwargs.get("training", args[position] if len(args) > position else default))


class _Tracer(fx.Tracer):
    """Sees Linears whole and looks into all that can be made of pointwise functions."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep Linears and torch's other building blocks whole, but not its activations and dropouts."""
        home = type(m).__module__
        transparent = home in {"torch.nn.modules.activation", "torch.nn.modules.dropout", "torch.nn.modules.linear"}
        return isinstance(m, nn.Linear) or (
            home.startswith("torch.nn.modules") and not transparent and next(m.children(), None) is None
        )


def _symbolic_trace(model: nn.Module, at: str) -> _Trace:
    """Write down the forward pass for symbolic inputs."""
    try:
        nodes = list(_Tracer().trace(model).nodes)
    except Exception as error:
        raise SiteError(
            f"the neurons of '{at}' cannot be followed through {type(model).__name__} symbolically "
            f"({type(error).__name__}); pass inputs=, so that the forward pass can be recorded."
        ) from error
    constants: dict[str, Tensor] = dict(model.named_parameters()) | dict(model.named_buffers())
    key: dict[fx.Node, Hashable] = {
        node: str(node.target) if node.op == "get_attr" and str(node.target) in constants else node for node in nodes
    }
    scalars = frozenset(name for name, tensor in constants.items() if tensor.numel() == 1)
    return _Trace([step for node in nodes for step in _step_of_node(node, key, model)], scalars)


def _step_of_node(node: fx.Node, key: Mapping[fx.Node, Hashable], model: nn.Module) -> Iterator[_Step]:
    """Yield the step that a node stands for, if it computes anything."""
    operands = tuple(key[operand] for operand in node.all_input_nodes)
    if node.op == "output":
        yield _Step(_RETURN, operands, node)
    elif node.op == "call_module":
        name = str(node.target)
        if isinstance(model.get_submodule(name), nn.Linear):
            yield _Step("linear", (*operands, f"{name}.weight"), node)
        else:
            yield _Step(f"'{name}' ({type(model.get_submodule(name)).__name__})", operands, node)
    elif node.op in {"call_function", "call_method"}:
        function = _plain(node.target if isinstance(node.target, str) else node.target.__name__)
        if function not in _NOT_TENSORS:
            yield _Step(function, operands, node, _is_random(function, node.args, node.kwargs))


def _plain(name: str) -> str:
    """Return a function's name without the underscores of operators and in-place forms."""
    return name.strip("_")


class _Recorder(TorchFunctionMode):
    """Writes down every torch function that returns a tensor; the tensors are kept so that no identity is reused."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names
        self.kept: dict[int, Tensor] = {}
        self.steps: list[_Step] = []

    def key(self, tensor: Tensor) -> Hashable:
        """Return the parameter's name, or the tensor's identity."""
        self.kept[id(tensor)] = tensor
        return self.names.get(id(tensor), id(tensor))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function and note what it made of what."""
        result = func(*args, **(kwargs or {}))
        function = _plain(getattr(func, "__name__", str(func)))
        operands = tuple(self.key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.steps.append(_Step(function, operands, self.key(leaf), _is_random(function, args, kwargs or {})))
        return result


def _recorded_trace(model: nn.Module, inputs: Any) -> _Trace:
    """Write down the forward pass of two samples."""
    inputs = first_batch(inputs)
    twin = copy_model(model)
    names = {id(tensor): name for name, tensor in (*twin.named_parameters(), *twin.named_buffers())}
    few = tree_map(lambda leaf: leaf[:2] if isinstance(leaf, Tensor) and leaf.ndim else leaf, inputs)
    args, kwargs = ((), dict(few)) if isinstance(few, Mapping) else ((few,), {})
    devices = sorted({tensor.device.index for tensor in twin.parameters() if tensor.is_cuda})
    with torch.random.fork_rng(devices), torch.no_grad(), _Recorder(names) as recorder:
        outputs = twin(*args, **kwargs)
    returned = tuple(recorder.key(leaf) for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))
    constants = dict(twin.named_parameters()) | dict(twin.named_buffers())
    scalars = {name for name, tensor in constants.items() if tensor.numel() == 1}
    return _Trace([*recorder.steps, _Step(_RETURN, returned, 0)], frozenset(scalars))
