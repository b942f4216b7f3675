"""A forward pass as a list of steps: which function of torch read which tensors, parameters by their names."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from liftscape.functional import MODEL_ERRORS, arguments_of, copy_model, few_samples, inputs_named, untouched
from liftscape.outcomes import SiteError
from liftscape.sites import first_batch

__all__ = ["RANDOM", "RETURN", "Step", "Steps", "recorded_steps", "symbolic_steps", "traced"]

# Position and default of the argument that makes them random.
RANDOM = {"dropout": (2, True), "alpha_dropout": (2, False), "feature_alpha_dropout": (2, False), "rrelu": (3, False)}
_NOT_TENSORS = frozenset(("size", "dim", "getattr", "numel", "stride", "is_floating_point"))
RETURN = "return"


@dataclass(frozen=True)
class Step:
    """One function call of the forward pass: parameters are named by strings, other tensors by numbers or nodes."""

    function: str
    operands: tuple[Hashable, ...]
    result: Hashable
    random: bool = False


@dataclass(frozen=True)
class Steps:
    """The steps of a forward pass, and which of the tensors in it hold a single number."""

    steps: list[Step]
    scalars: frozenset[Hashable]


def _is_random(function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether a dropout-like function is active."""
    if function not in RANDOM:
        return False
    position, default = RANDOM[function]
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


def traced(model: nn.Module, at: str) -> fx.Graph:
    """Return the forward pass as a graph for symbolic inputs, Linears whole.

    Args:
        model: any module.
        at: the layer whose neurons are to be followed, for the error.

    Returns:
        The graph.

    Raises:
        SiteError: if the pass branches on tensors.
    """
    try:
        with untouched(model):
            return _Tracer().trace(model)
    except Exception as error:
        raise SiteError(
            f"the neurons of '{at}' cannot be followed through {type(model).__name__} symbolically "
            f"({type(error).__name__}); pass inputs=, so that the forward pass can be recorded."
        ) from error


def symbolic_steps(model: nn.Module, at: str) -> Steps:
    """Write down the forward pass for symbolic inputs.

    Args:
        model: any module.
        at: the layer whose neurons are to be followed, for the error.

    Returns:
        The steps.

    Raises:
        SiteError: if the pass branches on tensors.
    """
    nodes = list(traced(model, at).nodes)
    constants: dict[str, Tensor] = dict(model.named_parameters()) | dict(model.named_buffers())
    key: dict[fx.Node, Hashable] = {
        node: str(node.target) if node.op == "get_attr" and str(node.target) in constants else node for node in nodes
    }
    scalars = frozenset(name for name, tensor in constants.items() if tensor.numel() == 1)
    return Steps([step for node in nodes for step in _step_of_node(node, key, model)], scalars)


def _step_of_node(node: fx.Node, key: Mapping[fx.Node, Hashable], model: nn.Module) -> Iterator[Step]:
    """Yield the step that a node stands for, if it computes anything."""
    operands = tuple(key[operand] for operand in node.all_input_nodes)
    if node.op == "output":
        yield Step(RETURN, operands, node)
    elif node.op == "call_module":
        name = str(node.target)
        if isinstance(model.get_submodule(name), nn.Linear):
            yield Step("linear", (*operands, f"{name}.weight"), node)
        elif isinstance(model.get_submodule(name), _BatchNorm):
            yield Step("batch_norm", (*operands, f"{name}.weight"), node)
        else:
            yield Step(f"'{name}' ({type(model.get_submodule(name)).__name__})", operands, node)
    elif node.op in {"call_function", "call_method"}:
        function = _plain(node.target if isinstance(node.target, str) else node.target.__name__)
        if function not in _NOT_TENSORS:
            yield Step(function, operands, node, _is_random(function, node.args, node.kwargs))


def _plain(name: str) -> str:
    """Return a function's name without the underscores of operators and in-place forms."""
    return name.strip("_")


class _Recorder(TorchFunctionMode):
    """Writes down every torch function that returns a tensor; the tensors are kept so that no identity is reused."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names
        self.kept: dict[int, Tensor] = {}
        self.steps: list[Step] = []

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
                self.steps.append(Step(function, operands, self.key(leaf), _is_random(function, args, kwargs or {})))
        return result


def recorded_steps(model: nn.Module, inputs: Any) -> Steps:
    """Write down the forward pass of few samples, or of the first batch where the model takes no fewer.

    Args:
        model: any module; a copy of it is called.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, of which the first is used.

    Returns:
        The steps.
    """
    batch = first_batch(inputs)
    try:
        return _recorded(model, few_samples(batch))
    except MODEL_ERRORS:
        with inputs_named(model, batch):
            return _recorded(model, batch)


def _recorded(model: nn.Module, inputs: Any) -> Steps:
    """Write down the forward pass of some samples."""
    twin = copy_model(model)
    names = {id(tensor): name for name, tensor in (*twin.named_parameters(), *twin.named_buffers())}
    args, kwargs = arguments_of(inputs)
    with untouched(twin), torch.no_grad(), _Recorder(names) as recorder:
        outputs = twin(*args, **kwargs)
    returned = tuple(recorder.key(leaf) for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor))
    constants = dict(twin.named_parameters()) | dict(twin.named_buffers())
    scalars = {name for name, tensor in constants.items() if tensor.numel() == 1}
    return Steps([*recorder.steps, Step(RETURN, returned, 0)], frozenset(scalars))
