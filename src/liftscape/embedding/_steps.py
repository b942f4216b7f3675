"""A forward pass as a list of steps: which function of torch read which tensors, parameters by their names."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape.forward import is_random, operation_of, plain_name, record
from liftscape.functional import copy_model, untouched
from liftscape.outcomes import SiteError

__all__ = ["RETURN", "Step", "Steps", "recorded_steps", "symbolic_steps", "traced"]

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
            # A forward pass that assigns a buffer would leave a symbol in its place.
            return _Tracer().trace(copy_model(model))
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
        function = plain_name(node.target if isinstance(node.target, str) else node.target.__name__)
        if not operation_of(function).reads_sizes:
            yield Step(function, operands, node, is_random(function, node.args, node.kwargs))


def recorded_steps(model: nn.Module, inputs: Any) -> Steps:
    """Write down the forward pass of few samples, or of the first batch where the model takes no fewer.

    Args:
        model: any module; it is left as it was.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, of which the first is used.

    Returns:
        The steps.
    """
    passed = record(model, inputs)
    key = lambda tensor: passed.names.get(tensor, tensor)
    steps = [
        Step(plain_name(call.function), tuple(map(key, call.reads)), key(made), call.random)
        for call in passed.functions
        for made in call.makes
    ]
    constants = dict(model.named_parameters()) | dict(model.named_buffers())
    scalars = frozenset(name for name, tensor in constants.items() if tensor.numel() == 1)
    return Steps([*steps, Step(RETURN, tuple(map(key, passed.outputs)), 0)], scalars)
