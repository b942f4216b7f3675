"""The recipe of an embedded or folded network: which modules of its base were replaced by plain ones, or left."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from liftscape.outcomes import EmbeddingError, LoadError
from liftscape.sites import copy_with
from liftscape.storage._graph_calls import build_block, called_modules, describe_block
from liftscape.storage._plain_modules import arguments_of, build, describe

__all__ = ["apply_edits", "find_edits"]

Edit = dict[str, Any]


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
    made_of = lambda entry: build(entry, device, dtype)
    block = lambda edit: build_block(base.get_submodule(edit["at"]), edit["block"], made_of)
    try:
        modules = {
            edit["at"]: block(edit) if "block" in edit else made_of(edit["module"])
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
        yield {"at": name, "block": describe_block(model, name, kept, describe)}
        return
    yield {"at": name, "module": describe(model, name)}


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
    return own(base) == own(model) and all(getattr(base, key) == getattr(model, key) for key in arguments_of(base))
