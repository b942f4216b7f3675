"""The batched descent is plain gradient descent with momentum, run by run."""

import pytest
import torch
from torch import nn

from liftscape.studies.embedding_principle_config import TrainingConfig
from liftscape.studies.embedding_principle_records import ShallowPoint, Spectrum
from liftscape.studies.embedding_principle_training import longest_stay, train_from_small_starts

CONFIG = TrainingConfig(
    widths=(2, 2, 1), runs=3, scale=0.5, learning_rate=0.05, momentum=0.9, steps=40, level_tolerance=0.05
)


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).double()


def level(label: str, value: float) -> ShallowPoint:
    return ShallowPoint(label, "shallow", "", value, 1, Spectrum(label, "strict saddle", (-1.0,), 0.1, (1, 0, 0), 0.0))


@pytest.fixture
def data(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    return inputs, inputs[:, :1] - 0.3 * inputs[:, 1:]


def test_every_run_is_gradient_descent_with_momentum(data: tuple[torch.Tensor, torch.Tensor]):
    study = train_from_small_starts(
        make_model, "deep", data, [level("P1", 1.0)], CONFIG, torch.Generator().manual_seed(4)
    )
    draw = torch.Generator().manual_seed(4)
    stacks = [torch.randn(3, 2, 2, generator=draw, dtype=torch.float64), None]
    stacks += [torch.randn(3, 1, 2, generator=draw, dtype=torch.float64), None]
    for run in range(CONFIG.runs):
        model = make_model()
        with torch.no_grad():
            for parameter, stack in zip(model.parameters(), stacks, strict=True):
                parameter.copy_(torch.zeros_like(parameter) if stack is None else stack[run] * 0.5 / 2**0.5)
        velocity = [torch.zeros_like(parameter) for parameter in model.parameters()]
        losses = []
        for _ in range(CONFIG.steps):
            loss = ((model(data[0]) - data[1]) ** 2).mean()
            losses.append(loss.item())
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            velocity = [0.9 * v - 0.05 * g for v, g in zip(velocity, gradients, strict=True)]
            with torch.no_grad():
                for parameter, v in zip(model.parameters(), velocity, strict=True):
                    parameter += v
        assert study.losses[run] == pytest.approx([losses[step] for step in study.steps], rel=1e-10)


def test_the_longest_stay_is_of_consecutive_steps():
    losses = torch.tensor([[1.0, 1.0, 2.0, 1.0, 1.0, 1.0], [2.0] * 6], dtype=torch.float64)
    assert longest_stay(losses, 1.0, 0.01).tolist() == [3, 0]


def test_levels_count_the_runs_that_come_near(data: tuple[torch.Tensor, torch.Tensor]):
    generator = torch.Generator().manual_seed(4)
    study = train_from_small_starts(make_model, "deep", data, [level("P1", -9.0)], CONFIG, generator)
    start = study.losses[0][0]
    again = train_from_small_starts(
        make_model, "deep", data, [level("P1", start)], CONFIG, torch.Generator().manual_seed(4)
    )
    assert study.levels[0].runs == 0
    assert again.levels[0].runs >= 1
    assert again.losses == study.losses
