"""How linear each layer is, over training and at the end, in networks of the kinds that are used."""

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from liftscape import data
from liftscape.folding import fold_within
from liftscape.linearity import layer_linearity
from liftscape.outcomes import LoadError
from liftscape.risk import EmpiricalRisk
from liftscape.studies.in_the_wild_findings import TRAINED, summarise
from liftscape.studies.in_the_wild_nets import ResidualCNN, Transformer, trained_mnist_cnn
from liftscape.studies.in_the_wild_settings import Settings
from liftscape.studies.pictures import pictures
from liftscape.training import initial_model
from liftscape.training.classifier import accuracy, watch
from liftscape.training.step_counts import log_spaced

__all__ = ["Settings", "run_task", "summarise", "tasks"]


# Of MNIST's training images, on which folds are fitted; the budget is in shares of the test images.
_CALIBRATION, _BUDGET, _BATCH = 6000, 0.005, 500


def tasks(config: Settings) -> list[str]:
    """Return one task for each network and seed; the trained one has no seeds.

    Args:
        config: the settings.

    Returns:
        "network/seed".
    """
    own = [name for name in config.networks if name != TRAINED]
    return [f"{name}/{seed}" for name, seed in product(own, range(config.seeds))] + [
        f"{name}/0" for name in config.networks if name == TRAINED
    ]


def run_task(config: Settings, task: str, device: torch.device) -> dict[str, Any]:
    """Train a network and watch its layers, or look at the trained one.

    Args:
        config: the settings.
        task: one of :func:`tasks`.
        device: where it is done.

    Returns:
        Its row.
    """
    network, number = task.split("/")
    if network == TRAINED:
        return {"network": network, **_look_at_the_trained(device)}
    seed, (x, y) = int(number), pictures(config.data, config.samples, device)
    model = initial_model(lambda: _network(config, network, x.shape[-1]), seed).to(device)
    names = [row.name for row in layer_linearity(model, x[:8]).rows]
    row = watch(
        model,
        x,
        y,
        probe=config.probe,
        losses_at=log_spaced(config.steps, config.losses),
        layers_at=log_spaced(config.steps, config.records),
        steps=config.steps,
        learning_rate=config.learning_rate,
        batch_size=config.batch,
        seed=seed,
    )
    test = pictures(config.data, config.samples, device, "test")
    return {"network": network, "seed": seed, "names": names, "accuracy": accuracy(model, *test), **row}


def _network(config: Settings, network: str, side: int) -> nn.Module:
    """Return one of the networks that are trained here."""
    if network == "transformer":
        return Transformer(side, config.features, config.layers)
    return ResidualCNN(config.channels, config.blocks)


def _look_at_the_trained(device: torch.device) -> dict[str, Any]:
    """Return the linearity of the trained network on MNIST's test images, or what is missing and how to get it."""
    model = trained_mnist_cnn()
    if isinstance(model, str):
        return {"missing": model}
    try:
        x, y = data.mnist("test")
    except LoadError as error:
        return {"missing": str(error).split("; ")[-1].rstrip(".")}
    model, held_out = model.to(device), _batches(x, y, device)
    rows = layer_linearity(model, held_out).rows
    calibration = EmpiricalRisk(model, "cross_entropy", _batches(*data.mnist(samples=_CALIBRATION), device))
    folded = fold_within(calibration, budget=_BUDGET, by="accuracy", held_out=held_out)
    return {
        "accuracy": folded.steps[0].held_out,
        "folded": [step.to_dict() for step in folded.steps],
        "calibration": _CALIBRATION,
        "names": [row.name for row in rows],
        "neurons": [row.neurons for row in rows],
        "held": [row.occupancy for row in rows],
        "dead": [row.dead for row in rows],
        "correlation": [row.min_correlation for row in rows],
        "r2": [row.r2 if row.r2 == row.r2 else None for row in rows],
    }


def _batches(x: Tensor, y: Tensor, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Return MNIST as the trained network reads it, in batches."""
    x = (x - 0.1307) / 0.3081
    return [(x[at : at + _BATCH].to(device), y[at : at + _BATCH].to(device)) for at in range(0, len(x), _BATCH)]
