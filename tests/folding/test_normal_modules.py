"""What comes out of a lift, a fold and a trim is a normal module."""

import copy
import io

import pytest
import torch
from torch import nn

import liftscape as ls

F64 = torch.float64


def made(how: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.9), nn.Conv2d(4, 3, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 2)).to(F64).eval()
    with torch.no_grad():
        model[6].bias[:3] = -100
    x = torch.randn(20, 1, 8, 8, dtype=F64)
    if how == "lift":
        return ls.lift(model, ["3", "8"], x, None, "elu").model, x
    if how == "trim":
        return ls.trim(model, x).model, x
    return ls.fold(model, x, at=["2", "7"], how="least-squares").model, x


@pytest.mark.parametrize("how", ["lift", "fold", "trim"])
def test_copies_pickles_dtypes_export_and_training(how: str) -> None:
    model, x = made(how)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(copy.deepcopy(model)(x), expected)
        buffer = io.BytesIO()
        torch.save(model, buffer)
        buffer.seek(0)
        assert torch.equal(torch.load(buffer, weights_only=False)(x), expected)
        rounded = copy.deepcopy(model).float()(x.float())
        torch.testing.assert_close(rounded.double(), expected, rtol=1e-3, atol=1e-3)
        exported = torch.export.export(model, (x,)).module()
        torch.testing.assert_close(exported(x), expected, rtol=1e-12, atol=1e-12)
    rule = torch.optim.SGD(model.parameters(), lr=1e-4)
    before = float(nn.functional.mse_loss(model(x), expected + 1).detach())
    for _ in range(5):
        rule.zero_grad()
        nn.functional.mse_loss(model(x), expected + 1).backward()
        rule.step()
    assert float(nn.functional.mse_loss(model(x), expected + 1).detach()) < before
