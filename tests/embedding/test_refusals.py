"""What cannot be lifted is refused in one sentence that names it, and nothing of the user's changes."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import liftscape as ls

F64 = torch.float64
INPUTS = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=F64)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)).to(F64)


def tied() -> nn.Sequential:
    model = net()
    model[2].weight = model[0].weight
    return model


def spectral() -> nn.Sequential:
    model = net()
    parametrizations.spectral_norm(model[2])
    return model.eval()


def weight_normed() -> nn.Sequential:
    model = net()
    parametrizations.weight_norm(model[2])
    return model


def pruned() -> nn.Sequential:
    model = net()
    prune.l1_unstructured(model[2], "weight", amount=0.5)
    return model


def frozen() -> nn.Sequential:
    model = net()
    model[2].weight.requires_grad_(False)
    return model


def without_bias() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 2)).to(F64)


@pytest.mark.parametrize(
    ("make", "at", "options", "sentence"),
    [
        (net, "2", {"width": 2}, r"needs at least rank W = 3 neurons \(W is 3 × 3\), but width 2"),
        (net, "2", {"width": (4, 2)}, r"needs at least rank W = 3 neurons"),
        (net, "22", {}, r"'2'"),
        (net, "1", {}, r"'1'"),
        (net, "2", {"activation": nn.Tanh()}, r"use approximate_lift"),
        (net, "2", {"activation": "sigmoid"}, r"use approximate_lift"),
        (net, "2", {"margin": 0.6}, r"between 0 and 0.5, but 0.6"),
        (net, "", {}, r"wrap it in nn.Sequential"),
        (tied, "2", {}, r"tied|shared"),
        (spectral, "2", {}, r"reparametri"),
        (weight_normed, "2", {}, r"reparametri"),
        (pruned, "2", {}, r"reparametri|mask"),
        (frozen, "2", {}, r"frozen|requires_grad"),
        (without_bias, "2", {"activation": "gelu"}, r"bias"),
    ],
)
def test_refusals(make: Callable[[], nn.Module], at: str, options: dict, sentence: str) -> None:
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ls.LiftscapeError, match=sentence) as raised:
        ls.lift(model, INPUTS, at, **options)
    assert "\n" not in str(raised.value)
    assert str(raised.value)[-1] in ".?"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_maps_without_bias_are_lifted_where_pieces_pass_through_the_origin() -> None:
    positive = torch.rand(20, 3, generator=torch.Generator().manual_seed(1), dtype=F64) + 0.1
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Tanh(), nn.Linear(2, 1)).to(F64)
    with pytest.raises(ls.LiftscapeError, match="bias"):
        ls.lift(model, positive - 0.6, "0", activation="relu")
    lifted = ls.lift(model, positive - 0.6, "0", activation="identity")
    assert float((lifted.model(positive) - model(positive)).detach().abs().max()) <= 1e-13


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (torch.full((4, 3), float("nan"), dtype=F64), r"not finite at index \(0, 0\)"),
        (INPUTS[:0], r"hold no samples"),
        (INPUTS[:, :2], r"raised on inputs of shape \(20, 2\)"),
        ((batch for batch in [INPUTS]), r"re-iterable"),
        ([], r"no batch"),
    ],
)
def test_data_that_cannot_be_used(inputs: object, sentence: str) -> None:
    with pytest.raises(ls.LiftscapeError, match=sentence):
        ls.lift(net(), inputs, "2", activation="relu")
