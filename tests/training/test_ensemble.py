"""An ensemble takes the trajectories that its networks would take one by one in an ordinary loop."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.training import initial_model, minibatches, train_ensemble

F64 = torch.float64
X = torch.linspace(-1, 1, 30, dtype=F64)[:, None]
DATA = (X, torch.sin(3 * X))


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def with_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 1)).double()


def ordinary(
    make_model: Callable[[], nn.Module],
    seed: int,
    steps: int,
    optimiser: Callable[[list[Tensor]], torch.optim.Optimizer],
    batch_size: int | None = None,
    scale: float = 1.0,
) -> nn.Module:
    """Train one network in a plain loop."""
    model = initial_model(make_model, seed, scale)
    rule = optimiser([parameter for parameter in model.parameters() if parameter.requires_grad])
    order = None if batch_size is None else minibatches(len(X), batch_size, seed)
    for _ in range(steps):
        index = slice(None) if order is None else next(order)
        rule.zero_grad()
        nn.functional.mse_loss(model(X[index]), DATA[1][index]).backward()
        rule.step()
    return model


@pytest.mark.parametrize(
    ("make_model", "batch_size", "name", "steps"),
    [
        (make, None, "sgd", 2000),
        (make, None, "adam", 2000),
        (make, 10, "sgd", 300),
        (make, 10, "adam", 300),
        (with_norm, None, "sgd", 300),
        (with_norm, 10, "adam", 300),
    ],
)
def test_trajectories_are_those_of_an_ordinary_loop(
    make_model: Callable[[], nn.Module], batch_size: int | None, name: str, steps: int
) -> None:
    # At larger rates some networks amplify rounding a billion times, and then no two loops agree.
    momentum, rate = (0.9, 0.01) if name == "sgd" else (0.0, 0.001)
    made = train_ensemble(
        make_model,
        "mse",
        DATA,
        starts=2,
        steps=steps,
        learning_rate=rate,
        optimizer=name,
        momentum=momentum,
        batch_size=batch_size,
        generator=5,
        record=[0, 7],
    )
    optimiser = (
        (lambda parameters: torch.optim.SGD(parameters, lr=rate, momentum=momentum))
        if name == "sgd"
        else (lambda parameters: torch.optim.Adam(parameters, lr=rate))
    )
    for index, seed in enumerate(made.seeds):
        alone = ordinary(make_model, seed, steps, optimiser, batch_size)
        state = made.member(index).state_dict()
        for key, tensor in alone.state_dict().items():
            torch.testing.assert_close(state[key], tensor, rtol=1e-6, atol=1e-6)
    assert made.steps == (0, 7, steps)


def test_a_network_is_the_same_in_whatever_company() -> None:
    options = {"steps": 50, "learning_rate": 0.1, "batch_size": 7}
    whole = train_ensemble(make, "mse", DATA, starts=5, **options)
    chunked = train_ensemble(make, "mse", DATA, starts=5, chunk=2, **options)
    torch.testing.assert_close(chunked.losses, whole.losses, rtol=1e-12, atol=1e-14)
    alone = train_ensemble(make, "mse", DATA, starts=1, generator=3, **options)
    torch.testing.assert_close(alone.losses[0], whole.losses[3], rtol=1e-12, atol=1e-14)


def test_each_network_has_its_own_rate_and_scale() -> None:
    rates, scales = [0.01, 0.1, 0.3], [1.0, 0.1, 2.0]
    made = train_ensemble(make, "mse", DATA, starts=3, steps=20, learning_rate=rates, scale=scales)
    for index, (rate, scale) in enumerate(zip(rates, scales, strict=True)):
        alone = ordinary(
            make, index, 20, lambda parameters, rate=rate: torch.optim.SGD(parameters, lr=rate), None, scale
        )
        torch.testing.assert_close(made.member(index)(X), alone(X), rtol=1e-9, atol=1e-12)


def test_recorded_risks_and_snapshots_are_those_of_the_members() -> None:
    made = train_ensemble(make, "mse", DATA, starts=2, steps=30, batch_size=5, record=[0, 10], snapshots=[0, 10, 30])
    for place, step in enumerate(made.steps):
        for index in range(2):
            risk = ls.EmpiricalRisk(made.member(index, step), "mse", DATA)
            assert float(risk.value()) == pytest.approx(float(made.losses[index, place]), rel=1e-12)
    torch.testing.assert_close(made.member(1, 30)(X), made.member(1)(X))


def test_classes_frozen_parameters_and_divergence() -> None:
    x, y = ls.data.digits()

    def classifier() -> nn.Module:
        model = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)).double()
        model[0].bias.requires_grad_(False)
        return model

    made = train_ensemble(
        classifier, "cross_entropy", (x, y), starts=2, steps=30, learning_rate=[0.2, 1e9], batch_size=64
    )
    assert float(made.losses[0, -1]) < float(made.losses[0, 0])
    assert not float(made.losses[1, -1]) < float(made.losses[1, 0])
    assert torch.equal(made.member(0)[0].bias, initial_model(classifier, 0)[0].bias)


def test_torchs_generator_and_the_data_are_left_alone() -> None:
    state, before = torch.random.get_rng_state(), deepcopy(DATA)
    first = train_ensemble(make, "mse", DATA, starts=2, steps=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(DATA, before, strict=True))
    assert torch.equal(first.losses, train_ensemble(make, "mse", DATA, starts=2, steps=5).losses)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"starts": 0}, "starts must be at least 1"),
        ({"batch_size": 31}, "batch_size must be between 1 and the 30 samples, but 31"),
        ({"learning_rate": [0.1]}, "learning_rate must be one positive number, or one for each of 2"),
        ({"optimizer": "lion"}, "optimizer must be 'sgd' or 'adam', but 'lion'"),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum 0.9 belongs to 'sgd'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options: dict, sentence: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence):
        train_ensemble(make, data=DATA, **{"loss": "mse", "starts": 2, "steps": 3} | options)


def test_networks_of_different_layers_are_refused() -> None:
    widths = iter([3, 3, 4])
    with pytest.raises(ls.LiftscapeError, match=r"network 1 differs from the first in 0\.bias"):
        train_ensemble(
            lambda: nn.Sequential(nn.Linear(1, next(widths)), nn.Linear(3, 1)).double(), "mse", DATA, starts=2
        )
