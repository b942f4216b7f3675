"""One name and one set of parameters for every spelling of an activation: module, function or Tensor method."""

import copy
import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from liftscape._intercept import Intercept
from liftscape.outcomes import ActivationError

__all__ = ["Kind", "as_module", "kind_of", "module_of"]


@dataclass(frozen=True)
class Kind:
    """A pointwise activation: its canonical name and the parameters that shape it.

    Attributes:
        name: canonical lower-case name, such as ``"leaky_relu"``.
        parameters: the parameters by torch's own names; a learnt slope may be a tensor with one entry a channel.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


# name: (module class, parameters by torch's names with torch's defaults, in the order of the functional form).
_SPELLINGS: dict[str, tuple[type[nn.Module] | None, dict[str, Any]]] = {
    "identity": (nn.Identity, {}),
    "relu": (nn.ReLU, {}),
    "relu6": (nn.ReLU6, {}),
    "leaky_relu": (nn.LeakyReLU, {"negative_slope": 0.01}),
    "prelu": (nn.PReLU, {"weight": 0.25}),
    "rrelu": (nn.RReLU, {"lower": 1 / 8, "upper": 1 / 3, "training": False}),
    "elu": (nn.ELU, {"alpha": 1.0}),
    "selu": (nn.SELU, {}),
    "celu": (nn.CELU, {"alpha": 1.0}),
    "gelu": (nn.GELU, {"approximate": "none"}),
    "hardtanh": (nn.Hardtanh, {"min_val": -1.0, "max_val": 1.0}),
    "hardsigmoid": (nn.Hardsigmoid, {}),
    "hardswish": (nn.Hardswish, {}),
    "softshrink": (nn.Softshrink, {"lambd": 0.5}),
    "hardshrink": (nn.Hardshrink, {"lambd": 0.5}),
    "threshold": (nn.Threshold, {"threshold": None, "value": None}),
    "softplus": (nn.Softplus, {"beta": 1.0, "threshold": 20.0}),
    "tanh": (nn.Tanh, {}),
    "sigmoid": (nn.Sigmoid, {}),
    "silu": (nn.SiLU, {}),
    "mish": (nn.Mish, {}),
    "logsigmoid": (nn.LogSigmoid, {}),
    "softsign": (nn.Softsign, {}),
    "tanhshrink": (nn.Tanhshrink, {}),
    "sin": (None, {}),
    "cos": (None, {}),
    "abs": (None, {}),
    "clamp": (None, {"min": None, "max": None}),
}
_OTHER_NAMES = {
    "clip": "clamp",
    "absolute": "abs",
    "swish": "silu",
    "clamp_min": "clamp",
    "clamp_max": "clamp",
    "special_expit": "sigmoid",
    "expit": "sigmoid",
    "hard_tanh": "hardtanh",
    "log_sigmoid": "logsigmoid",
}
_NOT_POINTWISE = {"GLU", "Softmax", "Softmin", "Softmax2d", "LogSoftmax", "MultiheadAttention"}
_NOT_POINTWISE |= {"glu", "softmax", "softmin", "log_softmax", "gumbel_softmax", "scaled_dot_product_attention"}


def kind_of(activation: Any, *args: Any, **kwargs: Any) -> Kind:
    """Name an activation, whichever way it is spelt.

    Args:
        activation: an nn.Module, a function of torch or torch.nn.functional, or a Tensor method.
        *args: the call's arguments after the input, for functions and methods.
        **kwargs: the call's keyword arguments.

    Returns:
        Its canonical name and parameters.

    Raises:
        ActivationError: if it is not pointwise, or unknown, or random.

    Example:
        >>> kind_of(torch.nn.functional.leaky_relu, 0.2)
        Kind(name='leaky_relu', parameters={'negative_slope': 0.2})
    """
    kind = _of_module(activation) if isinstance(activation, nn.Module) else _of_call(activation, args, kwargs)
    if kind.name == "rrelu" and kind.parameters["training"]:
        raise ActivationError("RReLU in training mode draws its slope at random; call eval() to fix it at the mean.")
    return kind


def as_module(activation: "nn.Module | type[nn.Module] | str | Callable[[], nn.Module]") -> nn.Module:
    """Return a fresh module for an activation given as a module, a class or a name.

    Args:
        activation: an instance (copied), a class, a callable that makes one, a function of torch (with its defaults),
            or a name such as ``"leaky_relu"``.

    Returns:
        A new module.

    Raises:
        ActivationError: if the name is unknown, with the nearest one offered.

    Example:
        >>> as_module("elu")
        ELU(alpha=1.0)
    """
    if isinstance(activation, nn.Module):
        return copy.deepcopy(activation)
    if callable(activation) and not _is_torch_function(activation):
        made = activation()
        if not isinstance(made, nn.Module):
            raise ActivationError(f"{activation} made a {type(made).__name__}; give a module, a class or a name.")
        return made
    spelt = activation if isinstance(activation, str) else _of_call(activation, (), {}).name
    name = _OTHER_NAMES.get(spelt.lower(), spelt.lower())
    for candidate in (name, name.replace("_", "")):
        module = _SPELLINGS.get(candidate, (None, {}))[0]
        if module is not None and candidate != "threshold":
            return module()
    known = sorted(key for key, (module, _) in _SPELLINGS.items() if module is not None and key != "threshold")
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}."
    raise ActivationError(f"no activation is called {spelt!r}; {hint}")


def module_of(kind: Kind) -> nn.Module:
    """Return the module of a kind.

    Args:
        kind: with parameters that are numbers.

    Returns:
        A new module.

    Raises:
        ActivationError: if torch has none, or a parameter is a tensor.

    Example:
        >>> module_of(kind_of(torch.nn.functional.leaky_relu, 0.2))
        LeakyReLU(negative_slope=0.2)
    """
    made = _SPELLINGS[kind.name][0]
    if made is None or any(isinstance(value, Tensor) for value in kind.parameters.values()):
        raise ActivationError(f"no module of torch.nn holds {kind.name} as it is called; write it as one.")
    return made(**{key: value for key, value in kind.parameters.items() if key not in {"weight", "training"}})


def _of_module(module: nn.Module) -> Kind:
    """Name a module by its class, or by the one function that it calls."""
    # A subclass may share its parent's forward, as ReLU6 does Hardtanh's: the nearest class in the table counts.
    for ancestor in type(module).__mro__:
        for name, (known, defaults) in _SPELLINGS.items():
            if known is ancestor and type(module).forward is ancestor.forward:
                return Kind(name, {key: getattr(module, key) for key in defaults})
    found = _only_call(module)
    if found is None:
        raise _unknown(type(module).__name__)
    return found


def _only_call(module: nn.Module) -> Kind | None:
    """Return the kind of a user's module that holds nothing and hands its input to one function of torch."""
    own = (module._modules, module._parameters, module._buffers, module._forward_hooks, module._forward_pre_hooks)
    kind = type(module)
    if any(own) or kind.__mro__[1] is not nn.Module or kind.__module__.startswith("torch."):
        return None
    probe = torch.zeros(2, 3)
    seen: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        seen.append((func, args, kwargs, result))
        return result

    try:
        with torch.no_grad(), Intercept(call):
            # A shallow copy, on which an attribute may be set without a trace in the caller's module.
            output = copy.copy(module).forward(probe)
    except Exception:  # What a user's code may raise on three zeros is not known.
        return None
    # One call only: a branch on its input, or on the input's shape, would be a further one.
    if len(seen) != 1:
        return None
    function, args, kwargs, result = seen[0]
    if result is not output or not args or args[0] is not probe:
        return None
    try:
        return _of_call(function, args[1:], {key: value for key, value in kwargs.items() if key != "inplace"})
    except ActivationError:
        return None


def _of_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Kind:
    """Name a function or method by its name, with arguments bound to the table's parameters."""
    spelt = getattr(function, "__name__", str(function))
    if spelt in _SPELLINGS and function is not None and spelt != "identity":
        name = spelt
    else:
        stem = spelt.removesuffix("_").lstrip("_")
        name = _OTHER_NAMES.get(stem, stem)
    if name not in _SPELLINGS or not _is_torch(function):
        raise _unknown(spelt)
    defaults = _SPELLINGS[name][1]
    order = ["max", "min"] if spelt.startswith("clamp_max") else list(defaults)
    given = {key: value for key, value in (dict(zip(order, args, strict=False)) | kwargs).items() if key in defaults}
    return Kind(name, defaults | given)


def _is_torch(function: Any) -> bool:
    """Tell torch's own callables from a user's function of the same name."""
    owner = getattr(function, "__module__", None) or getattr(getattr(function, "__objclass__", None), "__module__", "")
    return str(owner).startswith("torch") or getattr(function, "__objclass__", None) in {Tensor, torch._C.TensorBase}


def _is_torch_function(function: Any) -> bool:
    """Tell torch.relu and its like from classes and from a user's factory."""
    return not isinstance(function, (type, str)) and _is_torch(function)


def _unknown(name: str) -> ActivationError:
    """Say that an activation is not pointwise, or not known."""
    if name in _NOT_POINTWISE:
        return ActivationError(f"{name} is not pointwise, so it has no affine pieces; choose a pointwise activation.")
    return ActivationError(f"{name} is not an activation whose affine pieces are known; use one of torch.nn's own.")
