"""A network that was made from another one, on disk: its weights, and the recipe that leads to its structure."""

import json
import tempfile
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from liftscape import __version__
from liftscape._files import require_folder, write_atomically
from liftscape.functional import require_module
from liftscape.outcomes import EmbeddingError, LoadError
from liftscape.storage._edits import find_edits
from liftscape.storage._format import FORMAT, KEY, RECIPE, WEIGHTS, files_of, fingerprint

__all__ = ["check_destination", "save"]


@runtime_checkable
class Made(Protocol):
    """An outcome that holds a network: an embedding, a fold, a search over folds, a trim, a collapse, an escape."""

    @property
    def model(self) -> nn.Module:
        """The network that was made."""
        ...


def save(
    made: "Made | nn.Module", path: "Path | str", *, base: nn.Module | None = None, overwrite: bool = False
) -> Path:
    """Save a network that liftscape made from another, as safetensors with its recipe: same network, same bytes.

    The recipe lists which modules of the base network are replaced by which Linear, convolution, activation or
    Sequential, and which have left. The metadata of the weights hold it, so that one step replaces a whole network, and
    a second file holds it for people to read.

    Args:
        made: an outcome that holds its network and its base (of a lift, an embedding in width, a fold, a search over
            folds, a trim, a collapse), or with `base` any outcome or network.
        path: a folder for ``model.safetensors`` and ``recipe.json``, which appears whole or not at all where it is new;
            or a file such as ``small.safetensors``, beside which ``small.recipe.json`` is written.
        base: the network that it was made from, or one of the same structure; by default that of the outcome. Only its
            structure is read.
        overwrite: whether another network's files there may be replaced.

    Returns:
        The path.

    Raises:
        EmbeddingError: if no base network is known, or a recipe cannot hold the difference of the two networks.
        ModelError: if the network to be saved is no nn.Module, or on the meta device.
        LoadError: if the path holds another network and may not be overwritten, or is no folder or file as its name
            says.

    Example:
        >>> import tempfile, torch
        >>> from liftscape.embedding import lift
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> deeper = lift(net, torch.randn(9, 2), "2", activation="relu")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(file.name for file in save(deeper, f"{folder}/deeper").iterdir())
        ['model.safetensors', 'recipe.json']
    """
    destination = Path(path)
    model: Any = made if isinstance(made, nn.Module) else getattr(made, "model", made)
    require_module(model)
    files = dict(zip(files_of(destination), _render(_base_of(made, base), model), strict=True))
    check_destination(destination)
    taken = [file for file in files if file.exists()]
    if not overwrite and any(file.read_bytes() != files[file] for file in taken):
        names = ", ".join(file.name for file in taken)
        raise LoadError(f"{destination} already holds another network ({names}); name another place or force it.")
    if destination.exists() or destination.suffix == ".safetensors":
        destination.parent.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            write_atomically(file, content)
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as beside:
        whole = Path(beside) / destination.name
        whole.mkdir()
        for file, content in files.items():
            write_atomically(whole / file.name, content)
        whole.replace(destination)
    return destination


def check_destination(path: Path) -> None:
    """Raise unless a network can be saved at a path; nothing is written.

    Args:
        path: a folder, or a file that ends in ``.safetensors``.

    Raises:
        LoadError: if there is a folder where a file is wanted, or the other way round, or a file above it.
    """
    require_folder(path)
    if path.suffix == ".safetensors" and path.is_dir():
        raise LoadError(f"{path} is a folder; name a .safetensors file, or a folder of another name.")
    if path.suffix != ".safetensors" and path.exists() and not path.is_dir():
        raise LoadError(f"{path} is a file; name a folder to save {WEIGHTS} and {RECIPE} in, or a .safetensors file.")


def _base_of(made: Any, base: nn.Module | None) -> nn.Module:
    """Return the network that a recipe starts from."""
    found = getattr(made, "base", None) if base is None and not isinstance(made, nn.Module) else base
    if not isinstance(found, nn.Module):
        given = "was not given" if found is None else f"is a {type(found).__name__}"
        raise EmbeddingError(
            f"a recipe leads from a base network to this {type(made).__name__}, but the base {given}; "
            "give the network that it was made from as base."
        )
    return found


def _render(base: nn.Module, model: nn.Module) -> tuple[bytes, bytes]:
    """Return the content of both files."""
    tensors = _unique_tensors(model)
    kinds = sorted({str(entry.dtype).removeprefix("torch.") for entry in model.parameters()})
    recipe = {
        "format": FORMAT,
        "liftscape": __version__,
        "dtype": ", ".join(kinds),
        "edits": find_edits(base, model),
        "sha256": fingerprint(tensors),
    }
    text = json.dumps(recipe, indent=2, allow_nan=False) + "\n"
    return as_bytes(tensors, metadata={KEY: text}), text.encode("utf-8")


def _unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict's tensors, one that several names share once."""
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, entry in model.state_dict(keep_vars=True).items():
        if not isinstance(entry, Tensor):
            raise EmbeddingError(f"{name} of {type(model).__name__} is no tensor, so it cannot be saved as weights.")
        unique.setdefault(id(entry), (name, entry))
    return {name: entry.detach().cpu().clone().contiguous() for name, entry in unique.values()}
