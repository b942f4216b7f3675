"""An embedded network on disk: its weights and the recipe that rebuilds its structure on the base network."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from liftscape import __version__
from liftscape._files import write_atomically
from liftscape.embedding._embedding import Embedding
from liftscape.embedding._recipe import apply_edits, find_edits
from liftscape.embedding._weights import load_strictly, read_weights
from liftscape.outcomes import EmbeddingError, LoadError

__all__ = ["RECIPE", "WEIGHTS", "load_embedded", "save_embedded"]

RECIPE = "recipe.json"
WEIGHTS = "model.safetensors"
_FORMAT = 1


def save_embedded(
    embedded: "Embedding | tuple[nn.Module, nn.Module]", path: "Path | str", overwrite: bool = False
) -> Path:
    """Save an embedded or folded network as ``model.safetensors`` and ``recipe.json``: same network, same bytes.

    The recipe lists which modules of the base network are replaced by which Linear, activation or Sequential. A new
    folder appears whole or not at all; where it exists, each file is replaced in one step.

    Args:
        embedded: an embedding, or (base network, network made from it).
        path: the folder; made if it does not exist.
        overwrite: whether another network's files in the folder may be replaced.

    Returns:
        The folder.

    Raises:
        EmbeddingError: if the difference of the two networks is none that a recipe can hold.
        LoadError: if the folder holds another network and may not be overwritten, or is a file.

    Example:
        >>> import tempfile
        >>> base, wider = nn.Sequential(nn.Linear(2, 1)), nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load_embedded(base, save_embedded((base, wider), folder))
        >>> torch.equal(again(torch.ones(1, 2)), wider(torch.ones(1, 2)))
        True
    """
    folder = Path(path)
    base, model = (embedded.base, embedded.model) if isinstance(embedded, Embedding) else embedded
    files = _render(base, model)
    if folder.exists() and not folder.is_dir():
        raise LoadError(f"{folder} is a file; name a folder to save {WEIGHTS} and {RECIPE} in.")
    taken = [name for name in files if (folder / name).exists()]
    if taken and not overwrite and any((folder / name).read_bytes() != files[name] for name in taken):
        raise LoadError(
            f"{folder} already holds another network ({', '.join(taken)}); name another folder or force it."
        )
    if folder.exists():
        for name, content in files.items():
            write_atomically(folder / name, content)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
        whole = Path(beside) / folder.name
        whole.mkdir()
        for name, content in files.items():
            write_atomically(whole / name, content)
        whole.replace(folder)
    return folder


def load_embedded(model: nn.Module, path: "Path | str") -> nn.Module:
    """Rebuild a saved network on its base network and load its weights; no code is read from the files.

    Args:
        model: a network of the base network's structure, with any weights; it is left as it was.
        path: the folder that :func:`save_embedded` wrote.

    Returns:
        The network, new, on the model's device, in the dtypes in which it was saved.

    Raises:
        LoadError: if the folder lacks a file, the recipe does not fit the model, or the weights are damaged.

    Example:
        >>> import tempfile
        >>> net = nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load_embedded(nn.Linear(2, 1), save_embedded((net, net), folder))
        >>> torch.equal(again.weight, net.weight)
        True
    """
    folder = Path(path)
    recipe = _read_recipe(folder / RECIPE)
    weights = folder / WEIGHTS
    tensors = read_weights(weights)
    if hashlib.sha256(weights.read_bytes()).hexdigest() != recipe["sha256"]:
        raise LoadError(f"{weights} is not the file that {RECIPE} was written with; save the network again.")
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    rebuilt = apply_edits(model, recipe["edits"], device, dtype)
    for name, tensor in rebuilt.state_dict(keep_vars=True).items():
        if name in tensors and tensor.dtype != tensors[name].dtype:
            tensor.data = tensor.data.to(tensors[name].dtype)
    load_strictly(rebuilt, tensors, str(weights))
    return rebuilt


def _render(base: nn.Module, model: nn.Module) -> dict[str, bytes]:
    """Return the content of both files, the recipe last."""
    weights = save(_unique_tensors(model))
    kinds = sorted({str(entry.dtype).removeprefix("torch.") for entry in model.parameters()})
    recipe = {
        "format": _FORMAT,
        "liftscape": __version__,
        "dtype": ", ".join(kinds),
        "edits": find_edits(base, model),
        "weights": WEIGHTS,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    return {WEIGHTS: weights, RECIPE: (json.dumps(recipe, indent=2, allow_nan=False) + "\n").encode("utf-8")}


def _unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict's tensors, one that stands under several names once."""
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, entry in model.state_dict(keep_vars=True).items():
        if not isinstance(entry, Tensor):
            raise EmbeddingError(f"{name} of {type(model).__name__} is no tensor, so it cannot be saved as weights.")
        unique.setdefault(id(entry), (name, entry))
    return {name: entry.detach().cpu().clone().contiguous() for name, entry in unique.values()}


def _read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe, or raise if it is missing, damaged or of another format."""
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(
            f"there is no readable {RECIPE} in {path.parent}; give a folder that lift or fold wrote."
        ) from error
    except ValueError as error:
        raise LoadError(f"{path} is no JSON: {error}; save the network again.") from error
    wanted = {"format", "edits", "sha256"}
    if not isinstance(recipe, dict) or not wanted <= recipe.keys() or not isinstance(recipe["edits"], list):
        raise LoadError(f"{path} is no recipe of an embedded network; it must hold {', '.join(sorted(wanted))}.")
    if recipe["format"] != _FORMAT:
        raise LoadError(
            f"{path} has format {recipe['format']}, but this version reads format {_FORMAT}; update liftscape."
        )
    return recipe
