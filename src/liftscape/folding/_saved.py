"""A folded network on disk, and built again from the function that built the network before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from liftscape.embedding import load_embedded, save_embedded
from liftscape.outcomes import LoadError

__all__ = ["load_folded", "save_folded"]


@runtime_checkable
class _Made(Protocol):
    """What a fold, a search or a trim returns."""

    @property
    def model(self) -> nn.Module:
        """The network that was made."""
        ...


def save_folded(base: nn.Module, folded: "_Made | nn.Module", path: "Path | str", overwrite: bool = False) -> Path:
    """Save what a fold, a search over folds or a trim made of a network, as safetensors with its recipe.

    Weights are the folded network's; the recipe says what leads from the base to it. See :func:`save_embedded`, which
    it goes through, for the files.

    Args:
        base: the network that was folded, or of the same structure.
        folded: the outcome, or its network.
        path: a folder, or a file such as ``small.safetensors``.
        overwrite: whether another network's files there may be replaced.

    Returns:
        The path.

    Raises:
        ModelError: if the folded network is no module, or on the meta device.
        EmbeddingError: if the difference of the two networks is none that a recipe can hold.
        LoadError: if the place holds another network and may not be overwritten.

    Example:
        >>> import tempfile, torch
        >>> from liftscape.folding import fold
        >>> net = nn.Sequential(nn.Linear(1, 3), nn.Hardtanh(-9, 9), nn.Linear(3, 1))
        >>> x = torch.linspace(-1, 1, 8)[:, None]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_folded(net, fold(net, x), f"{folder}/small.safetensors")
        ...     sorted(file.name for file in path.parent.iterdir())
        ['small.recipe.json', 'small.safetensors']
    """
    made: Any = folded if isinstance(folded, nn.Module) else getattr(folded, "model", folded)
    return save_embedded((base, made), path, overwrite)


def load_folded(build: "nn.Module | Callable[[], nn.Module]", path: "Path | str") -> nn.Module:
    """Build a folded network again; no code is read from the files.

    Args:
        build: the function that builds the network before it was folded, or such a network; its weights do not matter.
        path: what :func:`save_folded` returned.

    Returns:
        The folded network, new, in the dtypes in which it was saved.

    Raises:
        LoadError: if build returns no module, or the files are missing, damaged, or do not fit it.

    Example:
        >>> import tempfile, torch
        >>> from liftscape.folding import fold
        >>> build = lambda: nn.Sequential(nn.Linear(1, 3), nn.Hardtanh(-9, 9), nn.Linear(3, 1))
        >>> net, x = build(), torch.linspace(-1, 1, 8)[:, None]
        >>> folded = fold(net, x).model
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load_folded(build, save_folded(net, folded, folder))
        >>> torch.equal(again(x), folded(x))
        True
    """
    base = build() if callable(build) and not isinstance(build, nn.Module) else build
    if not isinstance(base, nn.Module):
        raise LoadError(f"the function that builds the network must return a Module, not {type(base).__name__}.")
    return load_embedded(base, path)
