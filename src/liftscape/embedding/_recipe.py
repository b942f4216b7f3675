"""The recipe of an embedded or folded network: which modules of its base were replaced by plain ones, or left."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from liftscape.embedding._graph_recipe import build_block, called_modules, describe_block
from liftscape.outcomes import EmbeddingError, LoadError
from liftscape.sites import Parallel, copy_with

__all__ = ["apply_edits", "find_edits"]

Edit = dict[str, Any]

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


def find_edits(base: nn.Module, model: nn.Module) -> list[Edit]:
    """Compare two module trees and return what must be replaced in the base to get the other's structure.

    Where children have left a Sequential, an edit ``{"at": name, "leave": keys}`` names them, and the others stay as
    they are in the base network, whatever they are.

    Args:
        base: the smaller or earlier network.
        model: the network that was made from it.

    Returns:
        Edits ``{"at": name, "module": description}``; a description names a Sequential or Parallel with its
        children, a Linear with its widths, a convolution with its geometry, or an activation with its arguments. A
        block whose forward became a graph is described by its calls and its new modules under "block" instead.

    Raises:
        EmbeddingError: if a module differs that is none of these.

    Example:
        >>> base = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
        >>> [edit["at"] for edit in find_edits(base, nn.Sequential(nn.Linear(2, 5), nn.Tanh()))]
        ['0']
    """
    return list(_compare(base, model, "", {}))


def apply_edits(base: nn.Module, edits: list[Any], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a copy of the base network with the edits made; new modules hold undefined weights.

    Args:
        base: the network that the recipe was made for; it is left as it was.
        edits: from :func:`find_edits`.
        device: of the new modules.
        dtype: of the new modules.

    Returns:
        The copy.

    Raises:
        LoadError: if an edit names a module that the base lacks, or describes one that is not known.
    """
    known = {name for name, _ in base.named_modules(remove_duplicate=False)}
    left = [(edit["at"], key) for edit in edits if _is_edit(edit) and "leave" in edit for key in edit["leave"]]
    children = [f"{name}.{key}" if name else key for name, key in left]
    strangers = [name for name in [*(edit["at"] for edit in edits if _is_edit(edit)), *children] if name not in known]
    if strangers:
        raise LoadError(
            f"the recipe replaces {', '.join(strangers)}, which {type(base).__name__} does not have; "
            "give the network that the recipe was made from."
        )
    build = lambda entry: _build(entry, device, dtype)
    block = lambda edit: build_block(base.get_submodule(edit["at"]), edit["block"], build)
    try:
        modules = {
            edit["at"]: block(edit) if "block" in edit else build(edit["module"])
            for edit in edits
            if "leave" not in edit
        }
        made = copy_with(base, modules)
        for name, key in left:
            # A Sequential that is shared loses its child once.
            made.get_submodule(name)._modules.pop(key, None)
    except LoadError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise LoadError(
            f"the recipe describes what torch refuses to build: {reason}; save the network again."
        ) from error
    return made


def _is_edit(edit: Any) -> bool:
    """Return True, or raise where a recipe holds something else than an edit."""
    keys = edit.get("leave", []) if isinstance(edit, dict) and {"leave", "module", "block"} & edit.keys() else None
    if not isinstance(keys, list) or not all(isinstance(word, str) for word in (edit.get("at"), *keys)):
        raise LoadError(f"the recipe holds {edit!r}, which is no edit of a network; save the network again.")
    return True


def _compare(base: nn.Module, model: nn.Module, name: str, seen: dict[int, nn.Module]) -> Iterator[Edit]:
    """Yield the edits below one pair of modules, each shared module once."""
    if id(base) in seen:
        if seen[id(base)] is not model:
            raise EmbeddingError(
                f"'{name}' shares its module in the base network but not in the other; untie it first."
            )
        return
    seen[id(base)] = model
    mine, theirs = _children(base), _children(model)
    alike = type(base) is type(model) and _same_alone(base, model)
    part = 0 < len(theirs) < len(mine) and list(theirs) == [key for key in mine if key in theirs]
    if alike and type(base) is nn.Sequential and part:
        yield {"at": name, "leave": [key for key in mine if key not in theirs]}
        mine = {key: child for key, child in mine.items() if key in theirs}
    if alike and mine.keys() == theirs.keys():
        for key, child in mine.items():
            yield from _compare(child, theirs[key], f"{name}.{key}" if name else key, seen)
        return
    if isinstance(model, fx.GraphModule):
        kept = {target: _is_kept(base, model, target) for target in called_modules(model)}
        yield {"at": name, "block": describe_block(model, name, kept, _describe)}
        return
    yield {"at": name, "module": _describe(model, name)}


def _children(module: nn.Module) -> dict[str, nn.Module]:
    """Return the children by their keys, a shared one under each of them."""
    return {key: child for key, child in module._modules.items() if child is not None}


def _is_kept(base: nn.Module, block: nn.Module, target: str) -> bool:
    """Tell whether a module of a block is that of its base, but for its weights."""
    known = {name for name, _ in base.named_modules(remove_duplicate=False)}
    if target not in known:
        return False
    try:
        return not list(_compare(base.get_submodule(target), block.get_submodule(target), target, {}))
    except EmbeddingError:
        return False


def _same_alone(base: nn.Module, model: nn.Module) -> bool:
    """Tell whether two modules of one class agree in own tensors' shapes and, for plain ones, in their arguments."""
    own = lambda module: {
        key: None if tensor is None else tuple(tensor.shape)
        for key, tensor in (*module._parameters.items(), *module._buffers.items())
    }
    arguments = _ACTIVATIONS.get(type(base).__name__, ()) if _is_activation(base) else ()
    if type(base) in {nn.Conv1d, nn.Conv2d}:
        arguments = _CONVOLUTION
    return own(base) == own(model) and all(getattr(base, key) == getattr(model, key) for key in arguments)


def _describe(module: nn.Module, name: str) -> dict[str, Any]:
    """Describe a Sequential, a Linear or an activation by plain values."""
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
    return [[key, _describe(child, f"{name}.{key}" if name else key)] for key, child in module.named_children()]


def _build(entry: Any, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Build a described module without drawing from the random number generator."""
    entry = dict(entry) if isinstance(entry, dict) else {}
    kind = entry.pop("class", None)
    where = {"device": "meta", "dtype": dtype}
    if kind in {"Sequential", "Parallel"} and entry.keys() == {"children"}:
        built = nn.Sequential() if kind == "Sequential" else Parallel()
        for key, child in entry["children"]:
            built.add_module(str(key), _build(child, device, dtype))
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
    """Tell torch.nn's own activations from a user's class of the same name."""
    kind = type(module).__name__
    return kind in _ACTIVATIONS and type(module) is getattr(nn, kind)


def _to_json(value: Any) -> Any:
    """Write infinite limits as text, which JSON can hold."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any) -> Any:
    """Read infinite limits back."""
    return float(value) if value in {"inf", "-inf", "nan"} else value
