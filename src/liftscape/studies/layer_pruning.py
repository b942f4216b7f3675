"""Deep networks whose most linear layers are folded away, beside networks that lose random ones."""

from copy import deepcopy
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.folding import fold
from liftscape.linearity import layer_linearity
from liftscape.nets.image_classifiers import plain_cnn, plain_mlp
from liftscape.studies.layer_pruning_findings import STATES, summarise
from liftscape.studies.layer_pruning_settings import Settings
from liftscape.studies.pictures import pictures
from liftscape.training import initial_model
from liftscape.training.classifier import accuracy, train
from liftscape.training.plateaus import longest_plateau
from liftscape.training.step_counts import log_spaced
from liftscape.training.timing import clock_of

__all__ = ["Settings", "run_task", "summarise", "tasks"]

_TIMED = 9


def tasks(config: Settings) -> list[str]:
    """Return one task for each network and seed.

    Args:
        config: the settings.

    Returns:
        "network/seed".
    """
    return ["/".join(map(str, pair)) for pair in product(config.networks, range(config.seeds))]


def run_task(config: Settings, task: str, device: torch.device) -> dict[str, Any]:
    """Train a network, and fold layers out of it at its plateau and at its end.

    Args:
        config: the settings.
        task: one of :func:`tasks`.
        device: where it is done.

    Returns:
        Its row.
    """
    network, number = task.split("/")
    seed = int(number)
    x, y = pictures(config.data, config.samples, device)
    model = initial_model(lambda: _network(config, network, x.shape[-1]), seed).to(device)
    wanted = set(log_spaced(config.steps, config.losses))
    steps: list[int] = []
    losses: list[float] = []
    states: dict[int, dict[str, Tensor]] = {}

    def keep(step: int) -> None:
        if step in wanted:
            steps.append(step)
            losses.append(_loss(model, x[: config.probe], y[: config.probe]))
            states[step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    train(
        model,
        x,
        y,
        steps=config.steps,
        learning_rate=config.learning_rate,
        batch_size=config.batch,
        seed=seed,
        at=keep,
    )
    chosen = dict(zip(STATES, (longest_plateau(steps, losses, config.flat), config.steps), strict=True))
    row: dict[str, Any] = {"network": network, "seed": seed, "steps": steps, "losses": losses, "taken_at": chosen}
    for state, step in chosen.items():
        model.load_state_dict(states[step])
        row[state] = _fold_all(config, model, seed, x, y)
    return row


def _network(config: Settings, network: str, side: int) -> nn.Module:
    """Return a deep network without norms or skips."""
    if network == "mlp":
        return plain_mlp(side, [config.width] * config.depth)
    model = plain_cnn(side, [config.channels] * config.depth)
    # As torch draws them, eight convolutions in a row leave so little of the signal that they seldom begin to train.
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return model


def _loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the cross-entropy."""
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(x), y))


def _fold_all(config: Settings, model: nn.Module, seed: int, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Fold each number of layers, the most linear ones and random ones, and measure before, after, and tuned."""
    test_x, test_y = pictures(config.data, config.probe, x.device, "test")
    calibration = x[: config.probe]
    rows = [row for row in layer_linearity(model, calibration).rows if row.r2 == row.r2]
    ranked = [row.name for row in sorted(rows, key=lambda row: -row.r2)]
    # In the order of the layers, so that a draw of all of them is the same however they are ranked.
    places = [row.name for row in rows]
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Any] = {
        "r2": {row.name: row.r2 for row in rows},
        "before": _measure(model, test_x, test_y),
        "folds": [],
    }
    for count in config.counts:
        draws = [torch.randperm(len(places), generator=generator)[:count].tolist() for _ in range(config.draws)]
        choices = [("linear", ranked[:count]), *(("random", [places[place] for place in draw]) for draw in draws)]
        for by, names in choices:
            folded = fold(model, calibration, at=names, method="least-squares").model
            after = _measure(folded, test_x, test_y)
            tuned = deepcopy(folded)
            train(
                tuned,
                x,
                y,
                steps=config.tune,
                learning_rate=config.learning_rate / 3,
                batch_size=config.batch,
                seed=seed,
            )
            entry = {"by": by, "count": count, "layers": sorted(names), "after": after}
            found["folds"].append(entry | {"tuned": _measure(tuned, test_x, test_y)})
    return found


def _measure(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Return loss and accuracy on held-out pictures, parameters, and milliseconds for a thousand of them."""
    times = []
    clock = clock_of(x.device)
    with torch.no_grad():
        for _ in range(_TIMED):
            before = clock()
            model(x[:1000])
            times.append(clock() - before)
    return {
        "loss": _loss(model, x, y),
        "accuracy": accuracy(model, x, y),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "milliseconds": 1e3 * min(times) * 1000 / min(1000, len(x)),
    }
