"""Stuck shallow networks made deeper in several ways, side by side at equal steps and equal final size."""

from collections.abc import Callable, Iterator
from itertools import product
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from liftscape import data, nets
from liftscape.embedding import lift
from liftscape.escaping import Escape, escape
from liftscape.functional import copy_model
from liftscape.risk import EmpiricalRisk
from liftscape.studies.escape_growth_findings import ARMS, summarise
from liftscape.studies.escape_growth_settings import Settings
from liftscape.studies.pictures import pictures
from liftscape.training import carry_over, initial_model, minibatches
from liftscape.training.step_counts import log_spaced

__all__ = ["Settings", "run_task", "summarise", "tasks"]

Loss = Callable[[Tensor, Tensor], Tensor]
_SITE = "2"


def tasks(config: Settings) -> list[str]:
    """Return one task for each data set, optimizer and seed.

    Args:
        config: the settings.

    Returns:
        "data/optimizer/seed".
    """
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    return ["/".join(map(str, each)) for each in product(config.data, config.optimizers, seeds)]


def run_task(config: Settings, task: str, device: torch.device) -> dict[str, Any]:
    """Train a shallow network, make it deeper in each way, and train on.

    Args:
        config: the settings.
        task: one of :func:`tasks`.
        device: where it is done.

    Returns:
        Its row.
    """
    name, optimizer_name, number = task.split("/")
    seed = int(number)
    (x, y), held, name_of_loss = _data(config, name, seed, device)
    loss: Loss = functional.mse_loss if name_of_loss == "mse" else functional.cross_entropy
    outputs = y.shape[1] if name_of_loss == "mse" else int(y.max()) + 1
    widths = (x.shape[1], config.hidden[config.data.index(name)], outputs)
    shallow = _drawn(lambda: nets.mlp(widths, "tanh", dtype=x.dtype), seed).to(device)
    make = lambda model: _optimizer(config, optimizer_name, model)
    optimizer = make(shallow)
    order = minibatches(len(x), min(config.batch, len(x)), seed)
    _train(shallow, optimizer, x, y, loss, order, config.before)

    risk = EmpiricalRisk(shallow, name_of_loss, (x, y))  # pyright: ignore[reportArgumentType]
    grown, found = _grown(config, risk, seed)
    row: dict[str, Any] = {
        "data": name,
        "optimizer": optimizer_name,
        "seed": seed,
        "value": found.value,
        "gradient_norm": float(risk.gradient().norm()),
    }
    row |= {"predicted": found.predicted_decrease, "decrease": found.decrease, "status": found.status}
    # Every arm sees the same batches.
    later = [next(order) for _ in range(config.after)]
    recorded = log_spaced(config.after, config.losses)
    row["steps"] = recorded
    for arm in ARMS:
        model = grown[arm]
        rule = make(model) if arm == "scratch" else carry_over(optimizer, old=shallow, new=model)
        if arm == "scratch":
            _train(model, rule, x, y, loss, minibatches(len(x), min(config.batch, len(x)), seed), config.before)
        losses: list[float] = []

        def keep(step: int, model: nn.Module = model, losses: list[float] = losses) -> None:
            if step in recorded:
                losses.append(_value(model, loss, x, y))

        _train(model, rule, x, y, loss, iter(later), config.after, keep)
        row[arm] = {
            "losses": losses,
            "held_out": _value(model, loss, *held),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
    return row


def _grown(config: Settings, risk: EmpiricalRisk, seed: int) -> tuple[dict[str, nn.Module], Escape]:
    """Return the network that each arm goes on with, and the escape."""
    draws = torch.Generator().manual_seed(seed)
    shape = {"at": _SITE, "width": config.width, "activation": config.activation}
    found = escape(risk, neurons=config.neurons, ridge=config.ridge, tolerance=inf, generator=draws, **shape)
    lifted = lift(risk.model, risk.batches, generator=draws, **shape).model
    noisy = copy_model(lifted)
    with torch.no_grad():
        for parameter in noisy.get_submodule(_SITE).parameters():
            spread = float(parameter.double().square().mean().sqrt())
            noise = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
            parameter.add_((config.noise * spread * noise).to(parameter))
    anew = _redrawn(lifted, seed)
    random = copy_model(lifted)
    random.get_submodule(_SITE).load_state_dict(anew.get_submodule(_SITE).state_dict())
    return {
        "escape": found.model,
        "identity": lifted,
        "noise": noisy,
        "random": random,
        "scratch": anew,
        "shallow": copy_model(risk.model),
    }, found


def _redrawn(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy with all maps drawn anew as torch draws them."""
    copied = copy_model(model)

    def draw() -> nn.Module:
        for module in copied.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        return copied

    return _drawn(draw, seed + 1000)


def _drawn(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return a network whose maps are drawn as torch draws them, with a seed."""

    def draw() -> nn.Module:
        model = make()
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        return model

    return initial_model(draw, seed)


def _optimizer(config: Settings, name: str, model: nn.Module) -> Optimizer:
    """Return an optimizer by its name."""
    rate = config.learning_rates[config.optimizers.index(name)]
    return Adam(model.parameters(), lr=rate) if name == "adam" else SGD(model.parameters(), lr=rate, momentum=0.9)


def _train(
    model: nn.Module,
    rule: Optimizer,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    order: Iterator[Tensor],
    steps: int,
    at: Callable[[int], None] | None = None,
) -> None:
    """Take so many steps; `at` is called before each and after the last."""
    for step in range(steps):
        if at is not None:
            at(step)
        index = next(order).to(x.device)
        rule.zero_grad(set_to_none=True)
        loss(model(x[index]), y[index]).backward()
        rule.step()
    if at is not None:
        at(steps)


def _value(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> float:
    """Return the loss on all of the data."""
    with torch.no_grad():
        return float(loss(model(x), y))


def _data(
    config: Settings, name: str, seed: int, device: torch.device
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], str]:
    """Return training data, held-out data and the loss."""
    if name in {"digits", "fashion-mnist"}:
        train, held = (pictures(name, config.samples, device, split) for split in ("train", "test"))
        return (train[0].flatten(1), train[1]), (held[0].flatten(1), held[1]), "cross_entropy"
    draws = torch.Generator().manual_seed(seed)
    if name == "curve":
        x, y = data.curve("two-frequencies", 200, noise=0.05, generator=draws)
    else:
        x, y = data.iris_petal_width()
    order = torch.randperm(len(x), generator=draws)
    held, kept = order[: len(x) // 3], order[len(x) // 3 :]
    x, y = x.to(device), y.to(device)
    return (x[kept], y[kept]), (x[held], y[held]), "mse"
