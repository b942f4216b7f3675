"""Sampled values on disk: tensors and a few plain facts in one safetensors file, the same bytes for the same values."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from liftscape._files import write_atomically
from liftscape.outcomes import LoadError

__all__ = ["read_record", "write_record"]

_KEY = "liftscape"


def write_record(path: "Path | str", kind: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write tensors and facts as one safetensors file, in one step.

    Args:
        path: the file, ending in ``.safetensors``.
        kind: what the file holds, checked when it is read.
        tensors: by name, on any device; NaN and inf stay as they are.
        facts: what JSON can hold.

    Returns:
        The file.

    Raises:
        LoadError: if the name ends otherwise, or its folder does not exist.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise LoadError(f"a {kind} is saved as .safetensors, but {target} was given; change the ending.")
    if not target.parent.is_dir():
        raise LoadError(f"{target.parent} is no folder, so no {kind} can be saved in it; make it first.")
    # One entry only: the order of several is not the same in every process.
    text = json.dumps({"kind": kind, **facts}, sort_keys=True, allow_nan=False)
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(target, save(content, metadata={_KEY: text}))
    return target


def read_record(path: "Path | str", kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`write_record` wrote.

    Args:
        path: the file.
        kind: what it must hold.

    Returns:
        The tensors on the CPU, and the facts.

    Raises:
        LoadError: if there is no such file, it is damaged, or holds something else.
    """
    source = Path(path)
    if not source.is_file():
        raise LoadError(f"there is no file {source}; give one that a {kind}'s save wrote.")
    try:
        with safe_open(source, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(_KEY, "{}"))
        tensors = load_file(source)
    except (SafetensorError, OSError, ValueError) as error:
        raise LoadError(f"{source} cannot be read ({error}); save the {kind} again.") from error
    if facts.pop("kind", None) != kind:
        raise LoadError(f"{source} holds no {kind}; give a file that a {kind}'s save wrote.")
    return tensors, facts
