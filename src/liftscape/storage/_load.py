"""A saved network built again from the function that builds its base."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from liftscape.outcomes import LoadError
from liftscape.storage._edits import apply_edits
from liftscape.storage._format import files_of, fingerprint, read_recipe
from liftscape.storage._weights import load_strictly, read_weights

__all__ = ["load"]


def load(build: "nn.Module | Callable[[], nn.Module]", path: "Path | str") -> nn.Module:
    """Build a saved network again on its base network and load its weights; no code is read from the files.

    Args:
        build: the function that builds the base network, or such a network; its weights do not matter, and it is left
            as it was.
        path: what :func:`save` returned, a folder or a file.

    Returns:
        The network, new, on the base network's device, in the dtypes in which it was saved.

    Raises:
        LoadError: if `build` returns no nn.Module, the file is missing or damaged, or its recipe is missing or does not
            fit the base network.

    Example:
        >>> import tempfile
        >>> from liftscape.storage import save
        >>> build = lambda: nn.Sequential(nn.Linear(2, 1))
        >>> wider = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load(build, save(wider, folder, base=build()))
        >>> torch.equal(again(torch.ones(1, 2)), wider(torch.ones(1, 2)))
        True
    """
    base = build() if callable(build) and not isinstance(build, nn.Module) else build
    if not isinstance(base, nn.Module):
        raise LoadError(f"the function that builds the network must return a Module, not {type(base).__name__}.")
    weights, _ = files_of(Path(path))
    tensors = read_weights(weights)
    recipe = read_recipe(weights)
    if fingerprint(tensors) != recipe["sha256"]:
        raise LoadError(f"{weights} does not hold the tensors that it was written with; save the network again.")
    device = next((tensor.device for tensor in base.parameters()), torch.device("cpu"))
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    rebuilt = apply_edits(base, recipe["edits"], device, dtype)
    for name, tensor in rebuilt.state_dict(keep_vars=True).items():
        if name in tensors and tensor.dtype != tensors[name].dtype:
            tensor.data = tensor.data.to(tensors[name].dtype)
    load_strictly(rebuilt, tensors, str(weights))
    return rebuilt
