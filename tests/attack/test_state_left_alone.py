"""Counters, attributes and generators are as they were after every check, refusal and record."""

import collections
import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import liftscape as ls
from liftscape.outcomes import LiftscapeError, ModelError
from liftscape.training import train_ensemble

F64 = torch.float64
# The tests' own check of types draws from Python's generator.
pytestmark = pytest.mark.usefixtures("unchecked")
X = torch.linspace(-1, 1, 36, dtype=F64).reshape(12, 3)
Y = X[:, :2].sin()


class Schedule:
    """An object of the user's with a counter."""

    def __init__(self) -> None:
        self.step, self.seen = 0, [0]

    def advance(self) -> int:
        self.step += 1
        self.seen.append(self.step)
        return self.step


class Annealing(nn.Module):
    """Counts its calls in one place, and is the same function for a thousand calls."""

    total = 0
    shared: list[int] = []  # ruff: ignore[mutable-class-default]

    def __init__(self, place: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act, self.last = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
        self.place, self.number, self.entries, self.by_name = place, 0, [0], {"calls": 0}
        self.tensor, self.array = torch.zeros(1), np.zeros(1)
        self.queue, self.nested = collections.deque([0], maxlen=3), {"deep": [{"calls": 0}]}
        self.schedule, self.generator = Schedule(), torch.Generator().manual_seed(0)
        self.hidden = [nn.BatchNorm1d(3, momentum=0.5)]
        self.register_buffer("buffer", torch.zeros(()))
        self.double()

    def count(self) -> float:
        """Count one call, and return how many there were."""
        match self.place:
            case "number":
                self.number += 1
                return self.number
            case "list":
                self.entries.append(len(self.entries))
                return len(self.entries)
            case "dict":
                self.by_name["calls"] += 1
                return self.by_name["calls"]
            case "tensor":
                self.tensor += 1
                return float(self.tensor)
            case "array":
                self.array += 1
                return float(self.array[0])
            case "deque":
                self.queue.append(self.queue[-1] + 1)
                return self.queue[-1]
            case "nested":
                self.nested["deep"][0]["calls"] += 1
                return self.nested["deep"][0]["calls"]
            case "object":
                return self.schedule.advance()
            case "class":
                type(self).total += 1
                return type(self).total
            case "class list":
                self.shared.append(0)
                return len(self.shared)
            case "new attribute":
                self.made = getattr(self, "made", 0) + 1
                return self.made
            case "buffer":
                self.buffer += 1
                return float(self.buffer)
            case "hidden module":
                self.hidden[0](torch.randn(4, 3, dtype=F64, generator=self.generator))
                return 1000 * float(self.hidden[0].running_mean.abs().sum())
            case "generator":
                return 1000 * float(torch.rand((), generator=self.generator))
            case "mode":
                self.act.train(not self.act.training)
                return 1000.0 * self.act.training
        raise AssertionError(self.place)

    def forward(self, x: Tensor) -> Tensor:
        called = self.count()
        # The check of two evaluations sees the same network.
        return self.last(self.act(self.first(x))) * (1 + 1e-3 * (called // 10) * self.training_run)

    training_run = 0.0


PLACES = [
    "number", "list", "dict", "tensor", "array", "deque", "nested", "object", "class", "class list", "new attribute",
    "buffer", "hidden module", "generator", "mode",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Annealing.total = 0
    Annealing.shared.clear()


def state_of(model: Annealing) -> list[Any]:
    """All that a call may move, as plain values."""
    return [
        model.number, list(model.entries), dict(model.by_name), model.tensor.tolist(), model.array.tolist(),
        list(model.queue), copy.deepcopy(model.nested), model.schedule.step, list(model.schedule.seen),
        Annealing.total, list(Annealing.shared), getattr(model, "made", None), model.buffer.item(),
        model.hidden[0].running_mean.tolist(), model.hidden[0].num_batches_tracked.item(),
        model.generator.get_state().tolist(), [m.training for m in model.modules()],
    ]  # fmt: skip


def generators() -> list[Any]:
    """The states of all shared generators."""
    _, words, place, *_ = np.random.get_state()  # ruff: ignore[numpy-legacy-random]
    return [torch.get_rng_state().tolist(), random.getstate(), words.tolist(), place]


def risk(model: nn.Module) -> ls.EmpiricalRisk:
    return ls.EmpiricalRisk(model, "mse", (X, Y))


VERBS: dict[str, Callable[[nn.Module], object]] = {
    "risk": risk,
    "sites": lambda m: ls.find_sites(m, X),
    "lift": lambda m: ls.lift(m, X, "last"),
    "split": lambda m: ls.split(m, X, "first", neuron=0),
    "null": lambda m: ls.add_null_neuron(m, X, "first"),
    "approximate": lambda m: ls.approximate_lift(m, X, "last", epsilon=1e-3),
    "merge": lambda m: ls.merge(m, X, "first"),
    "linearity": lambda m: ls.layer_linearity(m, X),
    "fold": lambda m: ls.fold(m, X),
    "trim": lambda m: ls.trim(m, X),
    "monitor": lambda m: ls.Monitor(risk(m)).record(0),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "place", [pytest.param(p, marks=() if p in {"number", "nested"} else (pytest.mark.long,)) for p in PLACES]
)
def test_counters_are_as_they_were(place: str, verb: str) -> None:
    model = Annealing(place)
    before, draws = state_of(model), generators()
    try:
        VERBS[verb](model)
    except LiftscapeError:
        assert place in {"buffer", "hidden module", "generator", "mode"} or verb in {"trim", "fold"}
    assert state_of(model) == before
    assert generators() == draws


class Random(nn.Module):
    """A network that draws in one of many ways."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.drop, self.last, self.kind = nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2), kind
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        match self.kind:
            case "dropout":
                h = self.drop(h)
            case "functional":
                h = nn.functional.dropout(h, 0.5)
            case "torch":
                h = h * torch.rand(h.shape, dtype=F64)
            case "numpy":
                h = h * float(np.random.rand())  # ruff: ignore[numpy-legacy-random]
            case "python":
                h = h * random.random()
            case "unseen":
                torch.rand(3), np.random.rand(), random.random()  # ruff: ignore[numpy-legacy-random]
        return self.last(h)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", ["dropout", "functional", "torch", "numpy", "python", "unseen"])
def test_generators_are_as_they_were(kind: str, verb: str) -> None:
    model = Random(kind)
    draws = generators()
    try:
        VERBS[verb](model)
    except LiftscapeError as error:
        assert kind != "unseen", error  # ruff: ignore[pytest-assert-in-except]
    assert generators() == draws


@pytest.mark.parametrize(
    "place", [pytest.param(p, marks=() if p in {"number", "object"} else (pytest.mark.long,)) for p in PLACES[:12]]
)
def test_weights_are_the_same_bits_with_and_without_a_monitor(place: str) -> None:
    ends = []
    for watched in (False, True):
        Annealing.total = 0
        Annealing.shared.clear()
        model = Annealing(place)
        model.training_run = 0.0
        monitor = ls.Monitor(risk(model)) if watched else None
        model.training_run = 1.0
        torch.manual_seed(1)
        rule = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(40):
            if monitor is not None and step % 5 == 0:
                monitor.record(step)
            rule.zero_grad()
            nn.functional.mse_loss(model(X + 0.1 * torch.randn(X.shape, dtype=F64)), Y).backward()
            rule.step()
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


class RandomFeatures(nn.Module):
    """Keeps random features where one likes."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.last = kind, nn.Linear(6, 1)
        if kind == "zero start":
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)
        features = torch.randn(1, 6, dtype=F64)
        if kind == "buffer":
            self.register_buffer("features", features)
        else:
            self.features = [features] if kind == "list" else {"f": features} if kind == "dict" else features
        self.rate = float(torch.rand(())) if kind == "number" else 1.0
        self.shift = torch.rand(1, dtype=F64).numpy() if kind == "array" else np.zeros(1)
        if kind in {"number", "array"}:
            self.features = torch.ones(1, 6, dtype=F64)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        held = self.features
        features = held[0] if isinstance(held, list) else held["f"] if isinstance(held, dict) else held
        return self.last(torch.cos(self.rate * (x @ features) + float(self.shift[0])))


@pytest.mark.parametrize("kind", ["attribute", "zero start", "list", "dict", "number", "array"])
def test_an_ensemble_whose_networks_differ_in_attributes_is_refused(kind: str) -> None:
    x = torch.linspace(-1, 1, 20, dtype=F64)[:, None]
    with pytest.raises(ModelError, match="register them as buffers"):
        train_ensemble(lambda: RandomFeatures(kind), "mse", (x, x.sin()), starts=3, steps=2)


def test_an_ensemble_whose_networks_differ_in_buffers_trains_each_with_its_own() -> None:
    x = torch.linspace(-1, 1, 20, dtype=F64)[:, None]
    found = train_ensemble(lambda: RandomFeatures("buffer"), "mse", (x, x.sin()), starts=3, steps=2, learning_rate=0.1)
    for index, seed in enumerate(found.seeds):
        torch.manual_seed(seed)
        model = RandomFeatures("buffer")
        rule = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(2):
            rule.zero_grad()
            nn.functional.mse_loss(model(x), x.sin()).backward()
            rule.step()
        ours = dict(found.member(index).named_parameters())
        assert all(float((ours[name] - p).detach().abs().max()) < 1e-12 for name, p in model.named_parameters())


class Recurrent(nn.Module):
    """A recurrent layer, which knows its parameters by references, before a hidden layer."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer, self.hidden, self.out = kind(3, 4, batch_first=True), nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.hidden(self.layer(x)[0][:, -1])))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent_layers_train_on_after_every_reading(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    model = Recurrent(kind).double()
    x, y = torch.randn(6, 5, 3).double(), torch.randn(6, 2).double()
    risk = ls.EmpiricalRisk(model, "mse", (x, y))
    readings: dict[str, Callable[[], Any]] = {
        "value": risk.value,
        "product": lambda: risk.hessian() @ risk.gradient(),
        "sites": lambda: ls.find_sites(model, x),
        "monitor": lambda: ls.Monitor(risk, probe=6).record(0),
        "split": lambda: ls.split(model, x, "hidden", neuron=0, share=0.5).model,
    }
    for name, read in readings.items():
        made = read()
        for network in [model, made] if isinstance(made, Recurrent) else [model]:
            named = [getattr(network.layer, each) for each in network.layer._flat_weights_names]
            assert all(a is b for a, b in zip(network.layer._flat_weights, named, strict=True)) or network is made, name
            network.zero_grad(set_to_none=True)
            nn.functional.mse_loss(network(x), y).backward()
            assert all(parameter.grad is not None for parameter in network.parameters()), name


@pytest.mark.parametrize("place", ["number", "list", "nested", "object", "new attribute"])
def test_certificates_and_searches_leave_counters(place: str) -> None:
    model = Annealing(place)
    risk = ls.EmpiricalRisk(model, "mse", (X, Y))
    before = model.count()
    ls.certify(risk)
    ls.find_critical_point(risk, max_steps=2)
    assert model.count() == before + 1
