"""Forward passes that assign buffers, branch on data or return several tensors: an answer or a sentence."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import liftscape as ls

X = torch.linspace(-1, 1, 60, dtype=torch.float64).reshape(20, 3).sin()


class Base(nn.Module):
    """Two maps with an activation between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act, self.last = nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)
        self.register_buffer("mean", torch.zeros(6))
        with torch.no_grad():
            self.first.bias[0] = -9.0
        self.double()

    def forward(self, x: Tensor) -> Any:
        return self.last(self.act(self.first(x)))


class Assigned(Base):
    """Assigns a buffer anew at each call."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        self.mean = 0.9 * self.mean + 0.1 * h.mean(0).detach()
        return self.last(h)


class Branching(Base):
    """Takes one of two ways, which compute the same."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(self.act(h) if x.sum() > 0 else torch.relu(h))


class Asserting(Base):
    """Looks at its input."""

    def forward(self, x: Tensor) -> Tensor:
        assert float(x.mean()) < 100
        return super().forward(x)


class Several(Base):
    """Returns its features, too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.first(x)
        return h, self.last(self.act(h))


VERBS: dict[str, Callable[[nn.Module], Any]] = {
    "split": lambda model: ls.split(model, None, "first", neuron=1),
    "split on inputs": lambda model: ls.split(model, X, "first", neuron=1),
    "merge": lambda model: ls.merge(model, None, "first"),
    "merge on inputs": lambda model: ls.merge(model, X, "first"),
    "trim": lambda model: ls.trim(model, X),
    "trim affine": lambda model: ls.trim(model, X, affine_path=True),
    "collapse": lambda model: ls.collapse_residuals(model, X),
    "plant": lambda model: ls.plant_critical_point(model, X, kind="minimum"),
}


@pytest.mark.parametrize("kind", [Assigned, Branching, Asserting, Several])
@pytest.mark.parametrize("verb", VERBS)
def test_an_answer_or_one_sentence(verb: str, kind: type[Base]) -> None:
    model = kind()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = kind()(X)
    made = None
    with suppress(ls.LiftscapeError):
        made = VERBS[verb](model)
    network = getattr(made, "model", None)
    if network is not None and kind is not Several:
        assert float((network(X) - expected).detach().abs().max()) <= 1e-12
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_proved_fold_needs_no_parameters() -> None:
    low, high = torch.ones(3), 2 * torch.ones(3)
    assert ls.fold(nn.Sequential(nn.ReLU()), method=ls.Proved(box=(low, high))).removed == ()
