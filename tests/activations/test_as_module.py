"""Activations given as functions of torch."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import liftscape as ls
from liftscape.activations import affine_tails, as_module, kind_of, module_of


@pytest.mark.parametrize(
    ("function", "module"), [(torch.relu, nn.ReLU), (functional.leaky_relu, nn.LeakyReLU), (torch.tanh, nn.Tanh)]
)
def test_a_function_of_torch_becomes_its_module(function: object, module: type) -> None:
    made = as_module(function)
    assert type(made) is module
    x = torch.linspace(-3, 3, 13)
    torch.testing.assert_close(made(x), function(x))


def test_a_factory_that_makes_no_module_is_refused() -> None:
    with pytest.raises(ls.LiftscapeError, match="made a int; give a module, a class or a name"):
        as_module(lambda: 3)


class Wrapped(nn.Module):
    """A user's activation module that calls functions of torch."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.calls = way, 0

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.way == "one":
            return functional.leaky_relu(h, 0.2)
        if self.way == "branch":
            return torch.relu(h) if h.shape[0] > 1 else torch.tanh(h)
        if self.way == "two":
            return torch.relu(h) * 2
        if self.way == "other input":
            return torch.relu(torch.ones(2))
        raise ValueError(self.way)


def test_a_module_that_calls_one_function_is_that_function() -> None:
    wrapped = Wrapped("one")
    kind = kind_of(wrapped)
    assert (kind.name, kind.parameters) == ("leaky_relu", {"negative_slope": 0.2})
    assert wrapped.calls == 0
    assert isinstance(module_of(kind), nn.LeakyReLU)
    assert affine_tails(wrapped) == affine_tails(nn.LeakyReLU(0.2))


@pytest.mark.parametrize("way", ["branch", "two", "other input", "error"])
def test_any_other_module_is_unknown(way: str) -> None:
    with pytest.raises(ls.LiftscapeError, match="Wrapped is not an activation whose affine pieces are known"):
        kind_of(Wrapped(way))
