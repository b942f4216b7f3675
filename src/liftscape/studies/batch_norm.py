"""Networks with and without batch normalisation, and the same network started on, near and off a lifted manifold."""

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.embedding import lift
from liftscape.forward import Each, Neurons, Observation, copy_with, stream
from liftscape.nets.image_classifiers import plain_cnn, plain_mlp
from liftscape.studies.batch_norm_charts import STARTS, VARIANTS
from liftscape.studies.batch_norm_findings import summarise
from liftscape.studies.batch_norm_settings import Settings
from liftscape.studies.pictures import pictures
from liftscape.training import initial_model
from liftscape.training.classifier import train, watch
from liftscape.training.step_counts import log_spaced

__all__ = ["Settings", "run_task", "summarise", "tasks"]


def tasks(config: Settings) -> list[str]:
    """Return one task for each training.

    Args:
        config: the settings.

    Returns:
        "network/data/variant/seed", and "control/data/start/seed".
    """
    trained = product(config.networks, config.data, VARIANTS, range(config.seeds))
    control = product(["control"], config.data, STARTS, range(config.seeds))
    return ["/".join(map(str, parts)) for parts in (*trained, *control)]


def run_task(config: Settings, task: str, device: torch.device) -> dict[str, Any]:
    """Train one network and record losses and linearity.

    Args:
        config: the settings.
        task: one of :func:`tasks`.
        device: where it is trained.

    Returns:
        Its row.
    """
    network, name, variant, seed = task.split("/")
    x, y = pictures(name, config.samples, device)
    extra: dict[str, Any] = {}
    rate = config.control_rate if network == "control" else config.learning_rate
    if network == "control":
        model, extra["shallow_loss"] = _control(config, variant, int(seed), x, y)
    else:
        model = initial_model(lambda: _network(config, network, variant, x.shape[-1]), int(seed)).to(device)
    row = watch(
        model,
        x,
        y,
        probe=config.probe,
        losses_at=log_spaced(config.steps, config.losses),
        layers_at=log_spaced(config.steps, config.layers),
        steps=config.steps,
        learning_rate=rate,
        batch_size=config.batch,
        seed=int(seed),
    )
    return {"network": network, "data": name, "variant": variant, "seed": int(seed), **extra, **row}


def _network(config: Settings, network: str, variant: str, side: int) -> nn.Module:
    """Return a network of one variant; all variants draw the same weights."""
    norm = variant != "plain"
    if network == "mlp":
        model = plain_mlp(side, [config.width] * config.depth, norm)
    else:
        model = plain_cnn(side, config.channels, norm)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and variant != "norm":
            nn.init.constant_(module.bias, 0.0 if variant == "norm, β = 0" else config.large)
            module.bias.requires_grad_(variant != "norm, β = 0")
    return model


def _control(config: Settings, start: str, seed: int, x: Tensor, y: Tensor) -> tuple[nn.Module, float]:
    """Return a network at one of the starts, and the loss of the shallow network that is lifted."""
    side, widths = x.shape[-1], [config.width] * config.depth
    shallow = initial_model(lambda: plain_mlp(side, widths[:1]), seed).to(x.device)
    train(
        shallow,
        x,
        y,
        steps=config.shallow_steps,
        learning_rate=config.learning_rate,
        batch_size=config.batch,
        seed=seed,
    )
    with torch.no_grad():
        reached = float(nn.functional.cross_entropy(shallow(x[: config.probe]), y[: config.probe]))
    place, _, norm = start.partition(", ")
    if place == "off":
        model = initial_model(lambda: plain_mlp(side, widths), seed).to(x.device)
    else:
        generator = torch.Generator().manual_seed(seed)
        model = lift(shallow, x, "3", width=widths[1:], activation="relu", generator=generator).model
        if place == "near":
            _disturb(model, config.near, generator)
    return (_normalised(model, x) if norm else model), reached


def _disturb(model: nn.Module, share: float, generator: torch.Generator) -> None:
    """Add noise of a share of its own size to every tensor."""
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(share * parameter.square().mean().sqrt() * noise)


def _normalised(model: nn.Module, x: Tensor) -> nn.Module:
    """Put BatchNorm before every activation with γ and β such that on all data no output changes."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.ReLU)]
    moments: dict[str, tuple[Tensor, Tensor]] = {}

    def receive(seen: Observation) -> None:
        t = seen.tensor
        moments[seen.name] = t.mean(dim=0), t.var(dim=0, correction=0)

    stream(model, x, [Each(Neurons(names), receive)])
    modules: dict[str, nn.Module] = {}
    for name, (mean, variance) in moments.items():
        norm = nn.BatchNorm1d(len(mean), track_running_stats=False).to(x.device)
        with torch.no_grad():
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean)
        modules[name] = nn.Sequential(norm, nn.ReLU())
    return copy_with(model, modules)
