"""The format of a saved network: where its files are, and the fingerprint and recipe that they carry."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from liftscape.outcomes import LoadError

__all__ = ["FORMAT", "KEY", "RECIPE", "WEIGHTS", "files_of", "fingerprint", "read_recipe"]

RECIPE = "recipe.json"
WEIGHTS = "model.safetensors"
FORMAT = 2
# One key: the order of several in a file of safetensors differs from run to run.
KEY = "liftscape"


def files_of(path: Path) -> tuple[Path, Path]:
    """Return the file of the weights and that of the copy of the recipe.

    Args:
        path: a folder, or a file that ends in ``.safetensors``.

    Returns:
        Both.
    """
    if path.suffix == ".safetensors":
        return path, path.with_suffix(f".{RECIPE}")
    return path / WEIGHTS, path / RECIPE


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of names, dtypes, shapes and bytes.

    Args:
        tensors: contiguous, on the CPU, by name.

    Returns:
        SHA-256 in hexadecimal digits.
    """
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        entry = tensors[name]
        hashed.update(f"{name} {entry.dtype} {tuple(entry.shape)}\n".encode())
        # NumPy lacks some dtypes; their bytes it can hold.
        hashed.update(entry.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def read_recipe(weights: Path) -> dict[str, Any]:
    """Read the recipe that a file of weights carries.

    Args:
        weights: a file of safetensors.

    Returns:
        The recipe.

    Raises:
        LoadError: if it is missing, damaged or of another format.
    """
    with safe_open(weights, "pt") as opened:
        text = (opened.metadata() or {}).get(KEY)
    if text is None:
        raise LoadError(f"{weights} carries no recipe; give a folder or a .safetensors file that lift or fold wrote.")
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = error if isinstance(error, ValueError) else "it is nested too deeply"
        raise LoadError(f"the recipe in {weights} is no JSON: {reason}; save the network again.") from error
    wanted = {"format", "edits", "sha256"}
    if not isinstance(recipe, dict) or not wanted <= recipe.keys() or not isinstance(recipe["edits"], list):
        raise LoadError(f"{weights} carries no recipe of a network; it must hold {', '.join(sorted(wanted))}.")
    if recipe["format"] != FORMAT:
        raise LoadError(
            f"the recipe in {weights} has format {recipe['format']}, but this version of liftscape reads format "
            f"{FORMAT}; save the network with the version that reads it."
        )
    return recipe
