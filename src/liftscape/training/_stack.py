"""Many networks of one architecture as stacked tensors, and the batches that each of them sees."""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from liftscape.outcomes import LiftscapeError

__all__ = ["initial_model", "minibatches", "per_network", "stack_models"]


def initial_model(make_model: Callable[[], nn.Module], seed: int, scale: float = 1.0) -> nn.Module:
    """Return a network as drawn with a seed, all its trainable parameters times a scale.

    Torch's global generator is as it was afterwards.

    Args:
        make_model: makes a network, drawing from torch's global generator.
        seed: of the draw.
        scale: of the initialisation.

    Returns:
        The network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(scale)
    return model


def stack_models(models: Sequence[nn.Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return trainable parameters and the rest of the state, each stacked along a first axis.

    Args:
        models: of one architecture.

    Returns:
        Parameters and constants by name, (K, …), copies.

    Raises:
        LiftscapeError: if the networks differ in a name or a shape.
    """
    trained = {name for name, tensor in models[0].named_parameters() if tensor.requires_grad}
    states = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
    for index, state in enumerate(states):
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        first = {name: tuple(tensor.shape) for name, tensor in states[0].items()}
        if shapes != first:
            differing = sorted(name for name in shapes.keys() | first.keys() if shapes.get(name) != first.get(name))
            raise LiftscapeError(
                f"an ensemble needs networks of one architecture, but network {index} differs from the first in "
                f"{', '.join(differing)}; make_model must always make the same layers."
            )
    stacked = {name: torch.stack([state[name].detach() for state in states]) for name in states[0]}
    return (
        {name: tensor for name, tensor in stacked.items() if name in trained},
        {name: tensor for name, tensor in stacked.items() if name not in trained},
    )


def minibatches(samples: int, batch_size: int, seed: int) -> Iterator[Int[Tensor, " batch"]]:
    """Yield indices of batches without end: a new random order each epoch, whose incomplete last batch is left out.

    Args:
        samples: how many there are.
        batch_size: how many a batch holds.
        seed: of the orders.

    Yields:
        Indices (batch,).
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(samples, generator=generator)
        for start in range(0, samples - batch_size + 1, batch_size):
            yield order[start : start + batch_size]


def per_network(value: "float | Sequence[float]", count: int, what: str) -> list[float]:
    """Return one value for each network.

    Args:
        value: one for all, or one for each.
        count: how many networks.
        what: its name in an error.

    Returns:
        The values.

    Raises:
        LiftscapeError: if there are not as many values as networks, or one is not positive.
    """
    values = [float(value)] * count if isinstance(value, (int, float)) else [float(each) for each in value]
    if len(values) != count or not all(each > 0 for each in values):
        raise LiftscapeError(f"{what} must be one positive number, or one for each of {count} networks, not {value}.")
    return values
