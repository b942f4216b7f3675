"""Deep networks that lose layers in the orders of several criteria, and ReLU networks that lose neurons for nothing."""

from copy import deepcopy
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.folding import fold, operations, trim
from liftscape.nets.image_classifiers import deep_network, plain_cnn, plain_mlp
from liftscape.sites import output_gap
from liftscape.studies.fold_criteria_findings import summarise
from liftscape.studies.fold_criteria_settings import Settings
from liftscape.studies.pictures import pictures
from liftscape.training import initial_model
from liftscape.training.classifier import accuracy, train
from liftscape.training.fold_criteria import candidates, orders, prelu_slopes
from liftscape.training.timing import latency

__all__ = ["Settings", "run_task", "summarise", "tasks"]


def tasks(config: Settings) -> list[str]:
    """Return one task for each network and seed, and for each weight decay.

    Args:
        config: the settings.

    Returns:
        "criteria/network/seed" and "decay/network/decay/seed".
    """
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    deep = product(["criteria"], config.networks, seeds)
    decayed = product(["decay"], config.decay_networks, config.decays, seeds)
    return ["/".join(map(str, parts)) for parts in (*deep, *decayed)]


def run_task(config: Settings, task: str, device: torch.device) -> dict[str, Any]:
    """Train a network, and take layers or neurons out of it.

    Args:
        config: the settings.
        task: one of :func:`tasks`.
        device: where it is done.

    Returns:
        Its row.
    """
    what, network, *rest = task.split("/")
    if what == "decay":
        return _decayed(config, network, float(rest[0]), int(rest[1]), device)
    return _ranked(config, network, int(rest[0]), device)


def _ranked(config: Settings, network: str, seed: int, device: torch.device) -> dict[str, Any]:
    """Train a deep network, rank its layers by each criterion and fold them away."""
    x, y = pictures(config.data, config.samples, device)
    test = pictures(config.data, config.tested, device, "test")
    model = initial_model(lambda: deep_network(network, config.depth, config.channels), seed).to(device)
    _trained(config, model, x, y, config.steps, config.learning_rate, seed)
    probe_x, probe_y = x[: config.probe], y[: config.probe]
    names = list(candidates(model, probe_x))
    slopes = prelu_slopes(
        model,
        names,
        x,
        y,
        steps=config.slope_steps,
        learning_rate=config.learning_rate / 3,
        penalty=config.slope_penalty,
        batch_size=config.batch,
        seed=seed,
    )
    row: dict[str, Any] = {"what": "criteria", "network": network, "seed": seed, "layers": len(names), "folds": []}
    # What the same further training does to the whole network is what the fine-tuned ones are to be compared with.
    tuned = deepcopy(model)
    _trained(config, tuned, x, y, config.tune, config.learning_rate / 3, seed)
    row["before"] = _measured(config, model, test) | {"tuned": 100 * accuracy(tuned, *test)}
    for by, ways in orders(model, probe_x, probe_y, slopes, config.draws, seed).items():
        for order, count in product(ways, config.counts):
            if count > len(order):
                continue
            folded = fold(model, probe_x, at=order[:count], method="least-squares").model
            found = _measured(config, folded, test)
            _trained(config, folded, x, y, config.tune, config.learning_rate / 3, seed)
            found |= {"by": by, "count": count, "layers": order[:count], "tuned": 100 * accuracy(folded, *test)}
            row["folds"].append(found)
    return row


def _trained(config: Settings, model: nn.Module, x: Tensor, y: Tensor, steps: int, rate: float, seed: int) -> None:
    """Train in place, in training mode, and leave it in eval mode."""
    model.train()
    train(model, x, y, steps=steps, learning_rate=rate, batch_size=config.batch, seed=seed)
    model.eval()


def _measured(config: Settings, model: nn.Module, test: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Return accuracy, multiplications for a picture, and milliseconds for one and for 64 of them."""
    return {
        "accuracy": 100 * accuracy(model, *test),
        "operations": operations(model, test[0][:2]),
        "milliseconds": {str(size): latency(model, test[0][:size], config.timed) for size in (1, 64)},
    }


def _decayed(config: Settings, network: str, decay: float, seed: int, device: torch.device) -> dict[str, Any]:
    """Train a ReLU network with weight decay, and take out what does nothing on its training data."""
    x, y = pictures(config.data, config.samples, device)
    test = pictures(config.data, config.tested, device, "test")
    side = x.shape[-1]
    make = (
        (lambda: plain_mlp(side, [config.decay_width] * 3))
        if network == "mlp"
        else (lambda: plain_cnn(side, [config.decay_channels] * 4))
    )
    model = initial_model(make, seed).to(device)
    train(
        model,
        x,
        y,
        steps=config.decay_steps,
        learning_rate=config.decay_rate,
        batch_size=config.batch,
        seed=seed,
        weight_decay=decay,
    )
    model = model.double()
    batches = list(x.double().split(1000))
    trimmed = trim(model, batches, affine_path=True)
    folded = fold(trimmed.model, batches)
    gap, scale = output_gap(model, folded.model, batches)
    return {
        "what": "decay",
        "network": network,
        "decay": decay,
        "seed": seed,
        "accuracy": 100 * accuracy(model, test[0].double(), test[1]),
        "neurons": sum(row.neurons for row in trimmed.rows),
        "dead": sum(row.removed for row in trimmed.rows),
        "beside": sum(row.beside for row in trimmed.rows),
        "folded": len(folded.removed),
        "operations": [operations(model, x[:2].double()), operations(folded.model, x[:2].double())],
        "gap": gap / scale,
    }
