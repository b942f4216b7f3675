"""What torch means when it cannot differentiate twice: which function it is, and in which module."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.derivatives._point import Point
from liftscape.functional import hooked, named_tensors, new_nodes
from liftscape.outcomes import ModelError

__all__ = ["explain_derivative", "name_custom_function", "refuse_hidden"]

_NOT_IMPLEMENTED = re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented")
_ONCE = "once_differentiable"
# Of cond, map, scan and while_loop: their second derivatives lack what their backward passes hold constant.
_CONTROL_FLOW = "torch._higher_order_ops."
_ANYWHERE = "the model or the loss"


def explain_derivative(point: Point, error: RuntimeError) -> ModelError | None:
    """Return a sentence that names the function without a second derivative and its module.

    Args:
        point: where the error was raised.
        error: torch's.

    Returns:
        The sentence as an error, None for errors of another kind.
    """
    missing = _NOT_IMPLEMENTED.search(str(error))
    if missing is None and _ONCE not in str(error):
        return None
    wanted = None if missing is None else missing[1]
    operation, place = _locate(point, lambda node: _operation(node, wanted)) or (
        "a function marked once_differentiable" if wanted is None else wanted.removesuffix("_backward"),
        _ANYWHERE,
    )
    return ModelError(
        f"{type(point.model).__name__} uses a function without a second derivative in torch, {operation} in {place}; "
        "replace it by one made of differentiable operations, such as Hardsigmoid by a clamp of t / 6 + 1 / 2."
    )


def refuse_hidden(point: Point, value: Tensor, twice: bool) -> None:
    """Raise if a graph runs through a function whose second derivative torch gets wrong without a word.

    A function marked once_differentiable leaves a node that would raise, but no path to the parameters leads through
    it, or no node at all where the cotangent is a constant. Control flow within the graph is differentiated once only,
    as if the derivatives of its branches were constants, and not even once where the compiler is off.

    Args:
        point: where the graph was built.
        value: in which it ends.
        twice: whether it will be differentiated twice; otherwise only derivatives taken inside the model count.

    Raises:
        ModelError: naming the function and its module.
    """
    for node in new_nodes([value.grad_fn], set()):
        if type(node).__name__ == "Error" or (twice and _operation(node, None) is not None):
            sentence = explain_derivative(point, RuntimeError(_ONCE))
            assert sentence is not None
            raise sentence
        if _control_flow(node) is not None:
            operation, place = _locate(point, _control_flow) or (_control_flow(node), _ANYWHERE)
            raise ModelError(
                f"{type(point.model).__name__} uses {operation} in {place}, whose second derivative torch gets wrong; "
                "write it in plain Python, or by torch.where."
            )


def name_custom_function(point: Point) -> str | None:
    """Name the first function in the graph of the loss whose derivative is the user's own, and its module.

    Args:
        point: where.

    Returns:
        Both in words, None where there is no such function.
    """
    found = _locate(point, _custom)
    return None if found is None else f"{found[0]} in {found[1]}"


def _locate(point: Point, named: Callable[[Any], str | None]) -> tuple[str, str] | None:
    """Name the operation, and the module that was running when a node of it entered the graph."""
    seen: set[Any] = set()
    found: list[tuple[str, str]] = []

    def look(label: str, output: Any) -> None:
        for tensor in named_tensors(output).values():
            for node in new_nodes([tensor.grad_fn], seen):
                name = named(node)
                if name is not None:
                    found.append((name, label))

    running: list[str] = []

    def enter(label: str, inputs: Any) -> None:
        # What is new in a module's inputs was made by the one that calls it.
        look(running[-1] if running else "the loss", inputs)
        running.append(label)

    def leave(output: Any) -> None:
        look(running.pop(), output)

    # Hooks, not a walk over the module tree, since only a call tells which module uses what.
    labelled = [(module, _label(name, module)) for name, module in point.model.named_modules()]
    entering = lambda label: lambda _module, args, kwargs: enter(label, [args, kwargs])
    leaving = lambda _module, _args, _kwargs, output: leave(output)
    enters = [(module, entering(label)) for module, label in labelled]
    leaves = [(module, leaving) for module, _ in labelled]
    with hooked(enters, leaves, with_kwargs=True), torch.enable_grad():
        look("the loss", point.loss_on(next(iter(point.batches))))
    return found[0] if found else None


def _label(name: str, module: nn.Module) -> str:
    """Return how a sentence names a module."""
    return f"module '{name}' ({type(module).__name__})" if name else "the model itself"


def _operation(node: Any, wanted: str | None) -> str | None:
    """Return the name of the operation of a node if it is the one that has a first derivative only."""
    if wanted is None:
        backward = getattr(getattr(node, "_forward_cls", None), "backward", None)
        marked = _ONCE in getattr(getattr(backward, "__code__", None), "co_qualname", "")
        return type(node).__name__.removesuffix("Backward") if marked else None
    plain = wanted.replace("_", "").lower()
    name = type(node).__name__.rstrip("0123456789").lower()
    return wanted.strip("_").removesuffix("_backward") if name in {plain, f"{plain}backward"} else None


def _control_flow(node: Any) -> str | None:
    """Return torch's name of the control flow that a node differentiates, None for nodes of another kind."""
    module = getattr(getattr(node, "_forward_cls", None), "__module__", "")
    return "torch's " + module.removeprefix(_CONTROL_FLOW) if module.startswith(_CONTROL_FLOW) else None


def _custom(node: Any) -> str | None:
    """Return the name of a function whose derivative is written in Python outside of torch, None for other nodes."""
    forward = getattr(node, "_forward_cls", None)
    return None if forward is None or forward.__module__.startswith("torch.") else str(forward.__name__)
