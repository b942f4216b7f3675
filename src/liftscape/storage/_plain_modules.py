"""The modules that a recipe can hold, as plain values: maps, activations, and sequences and sums of these."""

import math
from typing import Any

import torch
from torch import nn

from liftscape.outcomes import EmbeddingError, LoadError
from liftscape.sites import Parallel

__all__ = ["arguments_of", "build", "describe"]

# Only these are ever built from a recipe, so that reading one cannot run code.
_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "CELU": ("alpha",),
    "Dropout": ("p",),  # of a call that a graph holds as a module
    "ELU": ("alpha",),
    "GELU": ("approximate",),
    "Hardshrink": ("lambd",),
    "Hardsigmoid": (),
    "Hardswish": (),
    "Hardtanh": ("min_val", "max_val"),
    "Identity": (),
    "LeakyReLU": ("negative_slope",),
    "LogSigmoid": (),
    "Mish": (),
    "PReLU": ("num_parameters",),
    "RReLU": ("lower", "upper"),
    "ReLU": (),
    "ReLU6": (),
    "SELU": (),
    "SiLU": (),
    "Sigmoid": (),
    "Softplus": ("beta", "threshold"),
    "Softshrink": ("lambd",),
    "Softsign": (),
    "Tanh": (),
    "Tanhshrink": (),
    "Threshold": ("threshold", "value"),
}
_LINEAR = ("in_features", "out_features", "bias")
_CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")


def arguments_of(module: nn.Module) -> tuple[str, ...]:
    """Return the attributes that determine a convolution or an activation beside its tensors.

    Args:
        module: any module.

    Returns:
        Their names; empty for other modules.
    """
    if type(module) in {nn.Conv1d, nn.Conv2d}:
        return _CONVOLUTION
    return _ACTIVATIONS.get(type(module).__name__, ()) if _is_activation(module) else ()


def describe(module: nn.Module, name: str) -> dict[str, Any]:
    """Describe a Sequential, a Parallel, a Linear, a convolution or an activation by plain values.

    Args:
        module: a new module.
        name: its name, for the refusal.

    Returns:
        What JSON can hold: its class and its arguments.

    Raises:
        EmbeddingError: if it is none of these.
    """
    if type(module) is nn.Sequential:
        return {"class": "Sequential", "children": _describe_children(module, name)}
    if type(module) is Parallel:
        return {"class": "Parallel", "children": _describe_children(module, name)}
    if type(module) is nn.Linear:
        sizes = {"in_features": module.in_features, "out_features": module.out_features}
        return {"class": "Linear", **sizes, "bias": module.bias is not None}
    if type(module) in {nn.Conv1d, nn.Conv2d}:
        geometry = {key: getattr(module, key) for key in _CONVOLUTION}
        return {"class": type(module).__name__, **geometry, "bias": module.bias is not None}
    if _is_activation(module):
        kind = type(module).__name__
        return {"class": kind, **{key: _to_json(getattr(module, key)) for key in _ACTIVATIONS[kind]}}
    raise EmbeddingError(
        f"'{name}' differs from the base network and is a {type(module).__name__}; a recipe can hold only Linear, "
        "Conv1d, Conv2d, Sequential, sums of these and the activations of torch.nn."
    )


def _describe_children(module: nn.Module, name: str) -> list[list[Any]]:
    """Describe the children of a module in their order."""
    return [[key, describe(child, f"{name}.{key}" if name else key)] for key, child in module.named_children()]


def build(entry: Any, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Build a described module without drawing from the random number generator.

    Args:
        entry: from :func:`describe`.
        device: of the module.
        dtype: of the module.

    Returns:
        The module, with undefined weights.

    Raises:
        LoadError: if the description is not one that :func:`describe` returns.
    """
    entry = dict(entry) if isinstance(entry, dict) else {}
    kind = entry.pop("class", None)
    where = {"device": "meta", "dtype": dtype}
    if kind in {"Sequential", "Parallel"} and entry.keys() == {"children"}:
        built = nn.Sequential() if kind == "Sequential" else Parallel()
        for key, child in entry["children"]:
            built.add_module(str(key), build(child, device, dtype))
        return built
    if kind == "Linear" and entry.keys() == set(_LINEAR):
        return nn.Linear(**entry, **where).to_empty(device=device)
    if kind in {"Conv1d", "Conv2d"} and entry.keys() == {*_CONVOLUTION, "bias"}:
        # JSON has lists for tuples, which a convolution takes apart in other ways.
        entry = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        return getattr(nn, kind)(**entry, **where).to_empty(device=device)
    if kind in _ACTIVATIONS and entry.keys() == set(_ACTIVATIONS[kind]):
        arguments = {key: _from_json(value) for key, value in entry.items()}
        if kind == "PReLU":
            return nn.PReLU(**arguments, **where).to_empty(device=device)
        return getattr(nn, kind)(**arguments)
    raise LoadError(f"the recipe describes {kind!r} with {sorted(entry)}, which no recipe of this version can hold.")


def _is_activation(module: nn.Module) -> bool:
    """Tell whether a module is one of torch.nn's activations, and not another class of the same name."""
    kind = type(module).__name__
    return kind in _ACTIVATIONS and type(module) is getattr(nn, kind)


def _to_json(value: Any) -> Any:
    """Write infinite limits as text, which JSON can hold."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any) -> Any:
    """Read infinite limits back."""
    return float(value) if value in {"inf", "-inf", "nan"} else value
