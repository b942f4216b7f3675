"""How the number of samples changes the lifted manifold, and how networks train on nested data sets."""

from itertools import product
from typing import Any

import torch
from torch import nn

from liftscape import data
from liftscape.embedding import lift
from liftscape.embedding.volume import active_shares, relative_margin
from liftscape.nets.image_classifiers import plain_mlp
from liftscape.studies.data_size_findings import MODES, summarise
from liftscape.studies.data_size_settings import Settings
from liftscape.studies.pictures import pictures
from liftscape.training import initial_model
from liftscape.training.classifier import train, watch
from liftscape.training.step_counts import log_spaced

__all__ = ["Settings", "run_task", "summarise", "tasks"]


def tasks(config: Settings) -> list[str]:
    """Return one task for each order of the samples and for each training.

    Args:
        config: the settings.

    Returns:
        "volume/order", and "mode/n/seed".
    """
    trained = ["/".join(map(str, each)) for each in product(MODES, config.sizes, range(config.seeds))]
    return [*(f"volume/{order}" for order in range(config.orders)), *trained]


def run_task(config: Settings, task: str, device: torch.device) -> dict[str, Any]:
    """Measure a volume, or train one network.

    Args:
        config: the settings.
        task: one of :func:`tasks`.
        device: where it is done.

    Returns:
        Its row.
    """
    mode, *rest = task.split("/")
    if mode == "volume":
        return {"mode": mode, "order": int(rest[0]), "shares": _shares(config, int(rest[0]), device)}
    n, seed = map(int, rest)
    x, y = pictures(config.data, n, device)
    row: dict[str, Any] = {"mode": mode, "n": n, "seed": seed}
    if mode == "on the manifold":
        model, added = _lifted(config, seed, device)
        row["margin"] = relative_margin(model, added, x)
    else:
        model = initial_model(lambda: plain_mlp(x.shape[-1], [config.neurons] * config.depth), seed).to(device)
    return row | watch(
        model,
        x,
        y,
        probe=n,
        losses_at=log_spaced(config.steps, config.losses),
        layers_at=log_spaced(config.steps, config.layers),
        steps=config.steps,
        learning_rate=config.manifold_rate if mode == "on the manifold" else config.learning_rate,
        batch_size=n // config.batches if mode == "minibatch" else None,
        seed=seed,
    )


def _shares(config: Settings, order: int, device: torch.device) -> list[float]:
    """Return p(S_n) for each size, in one order of the samples."""
    everything = data.digits()[0] if config.data == "digits" else data.fashion_mnist(samples=2 * config.sizes[-1])[0]
    generator = torch.Generator().manual_seed(order)
    shuffled = everything.flatten(1).float()[torch.randperm(len(everything), generator=generator)]
    h, largest = shuffled.to(device), config.sizes[-1]
    return active_shares(h[:largest], h[largest:], config.sizes, config.draws, generator)


def _lifted(config: Settings, seed: int, device: torch.device) -> tuple[nn.Module, list[str]]:
    """Return the start on the manifold of the smallest data set, and its inserted activations."""
    x, y = pictures(config.data, config.sizes[0], device)
    shallow = initial_model(lambda: plain_mlp(x.shape[-1], [config.neurons]), seed).to(device)
    train(
        shallow,
        x,
        y,
        steps=config.shallow_steps,
        learning_rate=config.learning_rate,
        batch_size=None,
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    model = lift(
        shallow, x, "3", width=[config.neurons] * (config.depth - 1), activation="relu", generator=generator
    ).model
    names = [name for name, module in model.named_modules() if isinstance(module, nn.ReLU) and name.startswith("3")]
    return model, names
