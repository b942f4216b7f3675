"""Every parameter belongs to exactly one layer, whatever the module."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from liftscape.curvature import layers_of
from liftscape.derivatives import flatten
from liftscape.functional import trainable_parameters


class Rooted(nn.Module):
    """Parameters of its own, a tied one, and children."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.encoder = nn.ModuleDict({"fc": nn.Linear(2, 3), "norm": nn.LayerNorm(3)})
        self.rnn = nn.LSTM(3, 2)
        self.attention = nn.MultiheadAttention(4, 2)
        self.tied = nn.Linear(2, 3)
        self.tied.weight = self.encoder["fc"].weight
        self.normed = weight_norm(nn.Linear(2, 2))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def entries(params: dict[str, Tensor], index) -> set[int]:
    """The entries that a layer holds."""
    return set(torch.arange(sum(tensor.numel() for tensor in params.values()))[index].tolist())


def test_names_are_modules_and_entries_are_in_one_layer_each() -> None:
    params = trainable_parameters(Rooted())
    layers = layers_of(params)
    own = ["scale", "encoder.fc", "encoder.norm", "rnn", "attention", "attention.out_proj", "tied", "normed"]
    assert list(layers) == own
    sets = [entries(params, index) for index in layers.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == len(flatten(params))
    assert len(entries(params, layers["tied"])) == 3


def test_entries_that_are_apart_are_indices_of_the_same_vector() -> None:
    params = {"a.weight": torch.zeros(2), "b.weight": torch.ones(3), "a.bias": torch.zeros(1), "w": torch.ones(2)}
    layers = layers_of(params)
    assert layers["a"].tolist() == [0, 1, 5]
    assert float(flatten(params)[layers["a"]].sum()) == 0
    assert layers["b"] == slice(2, 5)
    assert layers["w"] == slice(6, 8)


def test_a_parametrised_root_keeps_the_parameters_name() -> None:
    layers = layers_of(trainable_parameters(weight_norm(nn.Linear(2, 2, bias=False))))
    assert list(layers) == ["weight"]
