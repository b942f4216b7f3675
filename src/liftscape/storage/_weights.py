"""Reading weights without running code, and loading them strictly."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from liftscape._files import LARGEST, require_unpacked
from liftscape.outcomes import LoadError

__all__ = ["load_strictly", "read_weights"]

_NAMES_SHOWN = 6


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file, or from a .pt file by torch's weights-only loader.

    Args:
        path: ``.safetensors``, or ``.pt``, ``.pth`` or ``.bin`` that holds a state dict.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        LoadError: if the file is missing, truncated, of another kind, or would need code to be unpickled.
    """
    if not path.is_file():
        raise LoadError(f"there is no weights file {path}; give a .safetensors file or a .pt file with a state dict.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError, MemoryError) as error:
            raise LoadError(_unreadable(path, error)) from error
    if path.suffix not in {".pt", ".pth", ".bin"}:
        raise LoadError(f"weights are read from .safetensors, .pt, .pth or .bin, but {path} was given.")
    require_unpacked(path, max(LARGEST, path.stat().st_size))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if zipfile.is_zipfile(path):
            raise LoadError(
                f"{path} holds more than tensors, and reading it would run code; save model.state_dict() instead."
            ) from error
        raise LoadError(_unreadable(path, error)) from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, MemoryError) as error:
        raise LoadError(_unreadable(path, error)) from error
    return _as_tensors(path, state)


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Copy tensors into a model in place; every name and shape must fit, and nothing is changed where one does not.

    Names under which the model holds one tensor twice need only one entry.

    Args:
        model: the module, changed in place.
        tensors: tensors by name.
        origin: where they are from, for the refusal.

    Raises:
        LoadError: if names are missing or unexpected, or shapes differ; all of them are listed.
    """
    own = model.state_dict(keep_vars=True)
    present = {id(own[name]) for name in tensors if name in own}
    missing = [name for name, tensor in own.items() if name not in tensors and id(tensor) not in present]
    unexpected = [name for name in tensors if name not in own]
    differing = [
        f"{name} is {tuple(tensors[name].shape)} in the file and {tuple(own[name].shape)} in the model"
        for name in tensors
        if name in own and isinstance(own[name], Tensor) and tensors[name].shape != own[name].shape
    ]
    problems = [
        f"{title}: {_shorten(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", differing))
        if names
    ]
    if problems:
        raise LoadError(f"{origin} does not fit {type(model).__name__}; {'; '.join(problems)}.")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def _as_tensors(path: Path, state: Any) -> dict[str, Tensor]:
    """Return a state dict's tensors, looking into the usual wrapping of a checkpoint."""
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise LoadError(f"{path} must hold a state dict, but it holds a {type(state).__name__}.")
    strangers = [str(name) for name, entry in state.items() if not isinstance(entry, Tensor)]
    if strangers:
        raise LoadError(
            f"{path} must hold a state dict of tensors, but {_shorten(strangers)} are none; save model.state_dict()."
        )
    return {str(name): tensor for name, tensor in state.items()}


def _unreadable(path: Path, error: Exception) -> str:
    """Say that a file is truncated or not of its kind."""
    detail = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
    return f"{path} ({path.stat().st_size} bytes) is truncated or no {path.suffix} file: {detail}."


def _shorten(names: list[str]) -> str:
    """List names, at most a few of them."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
