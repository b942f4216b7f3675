"""The neurons of a convolution are its channels, at all places."""

import pytest
import torch
from torch import nn

import liftscape as ls

F64 = torch.float64


@pytest.mark.parametrize("kind", ["conv2d", "norm", "conv1d", "residual", "tokens"])
def test_channels_are_found_on_their_axis(kind: str) -> None:
    torch.manual_seed(0)
    made = {
        "conv2d": (nn.Conv2d(1, 3, 3), torch.randn(20, 1, 6, 6, dtype=F64)),
        "norm": (nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), torch.randn(20, 1, 6, 6, dtype=F64)),
        "conv1d": (nn.Conv1d(1, 3, 3), torch.randn(20, 1, 9, dtype=F64)),
        "residual": (Doubled(), torch.randn(20, 1, 6, 6, dtype=F64)),
        "tokens": (nn.Linear(4, 3), torch.randn(20, 7, 4, dtype=F64)),
    }
    before, x = made[kind]
    model = nn.Sequential(before, nn.ReLU()).to(F64)
    bias = next(parameter for name, parameter in model.named_parameters() if name.endswith("bias"))
    with torch.no_grad():
        bias[0] = 1e3
    if kind == "norm":
        with torch.no_grad():
            model[0][1].bias[0] = 1e3
    row = ls.layer_linearity(model, x).rows[0]
    assert (row.neurons, row.occupancy) == (3, pytest.approx(1 / 3))


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(1, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.map(x) + self.map(x)


def test_a_convolution_between_two_has_the_best_convolution_in_its_place() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LeakyReLU(0.9), nn.Conv2d(2, 1, 3), nn.Flatten(), nn.Linear(4, 1))
    x = torch.randn(200, 1, 6, 6, dtype=F64)
    risk = ls.EmpiricalRisk(model.to(F64), "mse", (x, x.flatten(1).sum(dim=1, keepdim=True)))
    (row,) = ls.layer_linearity(risk).rows
    assert 0.9 < row.r2 < 1
    folded = ls.fold(risk, at="1", method="least-squares").model
    assert row.loss_change == pytest.approx(float(risk.with_model(folded).value() - risk.value()), rel=1e-9)
