"""What lift and fold share: how far two networks' outputs differ on the data, and saving without loss."""

from pathlib import Path

import torch
from torch import nn

from liftscape.cli._print import interrupted_as
from liftscape.embedding._saved import save_embedded
from liftscape.risk import Batches, call_model, output_tensor, trainable_parameters

__all__ = ["output_gap", "save_network"]


def output_gap(first: nn.Module, second: nn.Module, data: Batches) -> float:
    """Return the largest difference of two networks' outputs on the data, relative to the first's largest output.

    Args:
        first: a network.
        second: another one.
        data: the batches.

    Returns:
        max |f₁ − f₂| / max |f₁| over all samples and outputs.
    """
    gap = largest = 0.0
    with torch.no_grad():
        for inputs, _ in data:
            ours, theirs = (
                output_tensor(call_model(net, trainable_parameters(net), inputs)) for net in (first, second)
            )
            gap = max(gap, float((ours - theirs).abs().max()))
            largest = max(largest, float(ours.abs().max()))
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
