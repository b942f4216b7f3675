"""Activations that are called as functions are layers like those that are modules."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import liftscape as ls

F64 = torch.float64


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)])
        self.activation = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.maps[0](x), inplace=True)
        h = self.activation(self.maps[1](h))
        h = functional.leaky_relu(self.maps[2](h), 0.3).relu()
        return self.maps[3](h)


class Modules(Functional):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.leaky, self.last = nn.ReLU(), nn.LeakyReLU(0.3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.maps[1](self.first(self.maps[0](x))))
        return self.maps[3](self.last(self.leaky(self.maps[2](h))))


def test_functions_have_the_rows_of_modules() -> None:
    torch.manual_seed(0)
    functions, modules = Functional().to(F64), Modules().to(F64)
    modules.load_state_dict(functions.state_dict())
    x = torch.randn(40, 3, dtype=F64)
    data = [x[:15], x[15:]]
    ours = {row.name: row for row in ls.layer_linearity(functions, data).rows}
    theirs = {row.name: row for row in ls.layer_linearity(modules, data).rows}
    assert list(ours) == ["activation", "relu", "leaky_relu", "relu 2"]
    for name, other in {"activation": "activation", "relu": "first", "leaky_relu": "leaky", "relu 2": "last"}.items():
        for key in ("neurons", "occupancy", "dead", "min_correlation"):
            assert getattr(ours[name], key) == pytest.approx(getattr(theirs[other], key), nan_ok=True)


def test_the_activation_of_torchs_own_encoder_layer_is_seen() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", dtype=F64).eval()
    rows = ls.layer_linearity(layer, torch.randn(5, 6, 8, dtype=F64)).rows
    assert [(row.name, row.neurons) for row in rows] == [("gelu", 16)]
