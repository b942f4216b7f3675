"""What lift and fold share: how far two networks' outputs differ on the data, and saving without loss."""

from pathlib import Path

from torch import nn

from liftscape.cli._print import interrupted_as
from liftscape.embedding import save_embedded
from liftscape.folding import output_gap
from liftscape.risk import Batches

__all__ = ["relative_gap", "save_network"]


def relative_gap(first: nn.Module, second: nn.Module, data: Batches) -> float:
    """Return the largest difference of two networks' outputs on the data, relative to the first's largest output.

    Args:
        first: a network.
        second: another one.
        data: the batches.

    Returns:
        max |f₁ − f₂| / max |f₁| over all samples and outputs.
    """
    gap, largest = output_gap(first, second, data)
    return gap / largest if largest else gap


def save_network(base: nn.Module, model: nn.Module, out: Path, force: bool) -> None:
    """Save a network with the recipe that makes it from its base.

    Args:
        base: the network of the user's function.
        model: the network made from it.
        out: the folder.
        force: whether another network in the folder may be overwritten.
    """
    with interrupted_as(f"{out} may hold files of two networks" if out.exists() else "nothing was written"):
        save_embedded((base, model), out, overwrite=force)
