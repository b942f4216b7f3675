"""Activations given as functions of torch."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import liftscape as ls
from liftscape.activations import as_module


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
