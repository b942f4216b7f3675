"""An embedded or folded network on disk: its weights and the recipe that rebuilds its structure on the base network."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from liftscape import __version__
from liftscape._files import require_folder, write_atomically
from liftscape.embedding._embedding import Embedding
from liftscape.embedding._recipe import apply_edits, find_edits
from liftscape.embedding._weights import load_strictly, read_weights
from liftscape.functional import require_module
from liftscape.outcomes import EmbeddingError, LoadError

__all__ = ["RECIPE", "WEIGHTS", "check_place", "load_embedded", "save_embedded"]

RECIPE = "recipe.json"
WEIGHTS = "model.safetensors"
_FORMAT = 2
# One key: the order of several in a file of safetensors differs from run to run.
_KEY = "liftscape"


def save_embedded(
    embedded: "Embedding | tuple[nn.Module, nn.Module]", path: "Path | str", overwrite: bool = False
) -> Path:
    """Save an embedded or folded network as safetensors with its recipe: same network, same bytes.

    The recipe lists which modules of the base network are replaced by which Linear, convolution, activation or
    Sequential, and which have left. It stands in the metadata of the weights, so that one step puts a whole network in
    the place of another, and a second time beside them, where people read it.

    Args:
        embedded: an embedding, or (base network, network made from it).
        path: a folder for ``model.safetensors`` and ``recipe.json``, which appears whole or not at all where it is new;
            or a file such as ``small.safetensors``, beside which ``small.recipe.json`` is written.
        overwrite: whether another network's files there may be replaced.

    Returns:
        The path.

    Raises:
        EmbeddingError: if the difference of the two networks is none that a recipe can hold.
        ModelError: if the network made is no module, or on the meta device; of the base only the structure is read.
        LoadError: if the place holds another network and may not be overwritten, or is no folder or file as its name
            says.

    Example:
        >>> import tempfile
        >>> base, wider = nn.Sequential(nn.Linear(2, 1)), nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load_embedded(base, save_embedded((base, wider), folder))
        >>> torch.equal(again(torch.ones(1, 2)), wider(torch.ones(1, 2)))
        True
    """
    place = Path(path)
    base, model = (embedded.base, embedded.model) if isinstance(embedded, Embedding) else embedded
    files = dict(zip(_files(place), _render(base, require_module(model)), strict=True))
    check_place(place)
    taken = [file for file in files if file.exists()]
    if not overwrite and any(file.read_bytes() != files[file] for file in taken):
        names = ", ".join(file.name for file in taken)
        raise LoadError(f"{place} already holds another network ({names}); name another place or force it.")
    if place.exists() or place.suffix == ".safetensors":
        place.parent.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            write_atomically(file, content)
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as beside:
        whole = Path(beside) / place.name
        whole.mkdir()
        for file, content in files.items():
            write_atomically(whole / file.name, content)
        whole.replace(place)
    return place


def check_place(place: Path) -> None:
    """Raise unless a network can be saved at a path; nothing is written.

    Args:
        place: a folder, or a file that ends in ``.safetensors``.

    Raises:
        LoadError: if there is a folder where a file is wanted, or the other way round, or a file above it.
    """
    require_folder(place)
    if place.suffix == ".safetensors" and place.is_dir():
        raise LoadError(f"{place} is a folder; name a .safetensors file, or a folder of another name.")
    if place.suffix != ".safetensors" and place.exists() and not place.is_dir():
        raise LoadError(f"{place} is a file; name a folder to save {WEIGHTS} and {RECIPE} in, or a .safetensors file.")


def load_embedded(model: nn.Module, path: "Path | str") -> nn.Module:
    """Rebuild a saved network on its base network and load its weights; no code is read from the files.

    Args:
        model: a network of the base network's structure, with any weights; it is left as it was.
        path: what :func:`save_embedded` returned, a folder or a file.

    Returns:
        The network, new, on the model's device, in the dtypes in which it was saved.

    Raises:
        LoadError: if the file is missing or damaged, or its recipe is missing or does not fit the model.

    Example:
        >>> import tempfile
        >>> net = nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load_embedded(nn.Linear(2, 1), save_embedded((net, net), folder))
        >>> torch.equal(again.weight, net.weight)
        True
    """
    weights, _ = _files(Path(path))
    tensors = read_weights(weights)
    recipe = _read_recipe(weights)
    if _fingerprint(tensors) != recipe["sha256"]:
        raise LoadError(f"{weights} does not hold the tensors that it was written with; save the network again.")
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    rebuilt = apply_edits(model, recipe["edits"], device, dtype)
    for name, tensor in rebuilt.state_dict(keep_vars=True).items():
        if name in tensors and tensor.dtype != tensors[name].dtype:
            tensor.data = tensor.data.to(tensors[name].dtype)
    load_strictly(rebuilt, tensors, str(weights))
    return rebuilt


def _files(place: Path) -> tuple[Path, Path]:
    """Return where the weights and the copy of the recipe stand."""
    if place.suffix == ".safetensors":
        return place, place.with_suffix(f".{RECIPE}")
    return place / WEIGHTS, place / RECIPE


def _render(base: nn.Module, model: nn.Module) -> tuple[bytes, bytes]:
    """Return the content of both files."""
    tensors = _unique_tensors(model)
    kinds = sorted({str(entry.dtype).removeprefix("torch.") for entry in model.parameters()})
    recipe = {
        "format": _FORMAT,
        "liftscape": __version__,
        "dtype": ", ".join(kinds),
        "edits": find_edits(base, model),
        "sha256": _fingerprint(tensors),
    }
    text = json.dumps(recipe, indent=2, allow_nan=False) + "\n"
    return save(tensors, metadata={_KEY: text}), text.encode("utf-8")


def _unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict's tensors, one that stands under several names once."""
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, entry in model.state_dict(keep_vars=True).items():
        if not isinstance(entry, Tensor):
            raise EmbeddingError(f"{name} of {type(model).__name__} is no tensor, so it cannot be saved as weights.")
        unique.setdefault(id(entry), (name, entry))
    return {name: entry.detach().cpu().clone().contiguous() for name, entry in unique.values()}


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of names, dtypes, shapes and bytes."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        entry = tensors[name]
        hashed.update(f"{name} {entry.dtype} {tuple(entry.shape)}\n".encode())
        # NumPy lacks some dtypes; their bytes it can hold.
        hashed.update(entry.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _read_recipe(weights: Path) -> dict[str, Any]:
    """Read the recipe that a file of weights carries, or raise if it is missing, damaged or of another format."""
    with safe_open(weights, "pt") as opened:
        text = (opened.metadata() or {}).get(_KEY)
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
    if recipe["format"] != _FORMAT:
        raise LoadError(
            f"the recipe in {weights} has format {recipe['format']}, but this version of liftscape reads format "
            f"{_FORMAT}; save the network with the version that reads it."
        )
    return recipe
