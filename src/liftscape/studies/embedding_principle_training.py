"""Training losses of a deeper network from many small random starts at once."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from liftscape.studies.embedding_principle_config import TrainingConfig
from liftscape.studies.embedding_principle_curve_records import TrainingLevel, TrainingStudy
from liftscape.studies.embedding_principle_records import ShallowPoint

__all__ = ["longest_stay", "train_from_small_starts"]

_RECORDED = 180


def train_from_small_starts(
    make_model: Callable[[], nn.Module],
    network: str,
    data: tuple[Tensor, Tensor],
    points: Sequence[ShallowPoint],
    config: TrainingConfig,
    generator: torch.Generator,
) -> TrainingStudy:
    """Train copies of one network by gradient descent with momentum, and watch how long they stay at shallow levels.

    θ ← θ + v, v ← m v − η ∇R(θ) on the whole data set, weights drawn from N(0, s² / fan-in), biases zero.

    Args:
        make_model: makes the network.
        network: its name.
        data: inputs and targets; the loss is the mean squared error.
        points: the shallow critical points whose losses are the levels.
        config: number of runs, scale s, learning rate η, momentum m, number of steps, tolerance of a level.
        generator: draws the starts.

    Returns:
        The losses at logarithmically spaced steps, and for each level the runs that reach it.
    """
    losses = _descend(make_model(), data, config, generator)
    last = config.steps - 1
    steps = sorted({round((last + 1) ** (index / (_RECORDED - 1))) - 1 for index in range(_RECORDED)})
    stays = {point.label: longest_stay(losses, point.value, config.level_tolerance) for point in points}
    levels = tuple(
        TrainingLevel(
            point.label,
            point.network,
            point.value,
            point.spectrum.kind,
            int((stays[point.label] > 0).sum()),
            int(stays[point.label].max()),
        )
        for point in points
    )
    curves = tuple(tuple(curve) for curve in losses[:, steps].tolist())
    return TrainingStudy(network, tuple(steps), curves, levels, config.level_tolerance)


def longest_stay(losses: Float[Tensor, "runs steps"], level: float, tolerance: float) -> Float[Tensor, " runs"]:
    """Return for each run the largest number of consecutive steps within a relative tolerance of a level.

    Args:
        losses: one row for each run.
        level: the value.
        tolerance: relative.

    Returns:
        Whole numbers, one for each run.

    Example:
        >>> longest_stay(torch.tensor([[3.0, 1.0, 1.0, 2.0, 1.0]]), 1.0, 0.01).tolist()
        [2.0]
    """
    stay, longest = torch.zeros(len(losses)), torch.zeros(len(losses))
    for column in losses.T:
        near = (column - level).abs() <= tolerance * level
        stay = torch.where(near, stay + 1, torch.zeros_like(stay))
        longest = torch.maximum(longest, stay)
    return longest


def _descend(
    model: nn.Module, data: tuple[Tensor, Tensor], config: TrainingConfig, generator: torch.Generator
) -> Float[Tensor, "runs steps"]:
    """Return the loss of every run before each step."""
    inputs, targets = data
    params, _ = stack_module_state([model] * config.runs)
    params = {name: _small(tensor.detach(), config.scale, generator) for name, tensor in params.items()}

    def risk(theta: dict[str, Tensor]) -> Tensor:
        return nn.functional.mse_loss(functional_call(model, theta, (inputs,)), targets)

    theta = {name: tensor.requires_grad_() for name, tensor in params.items()}
    descent = torch.optim.SGD(theta.values(), lr=config.learning_rate, momentum=config.momentum)
    losses = []
    for _ in range(config.steps):
        values = vmap(risk)(theta)
        descent.zero_grad()
        values.sum().backward()
        descent.step()
        losses.append(values.detach())
    return torch.stack(losses, dim=1)


def _small(stacked: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """Return small normal weights and zero biases in the shape of stacked ones."""
    if stacked.ndim < 3:
        return torch.zeros_like(stacked)
    return scale * stacked.shape[-1] ** -0.5 * torch.randn(stacked.shape, generator=generator, dtype=stacked.dtype)
