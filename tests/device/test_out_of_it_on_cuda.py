"""A folded network goes to a GPU and back, into files and out of them, and a monitor goes with it."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import liftscape as ls

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
X = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))


def folded() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.LeakyReLU(0.7), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))
    return model, ls.fold(model, X, at="1", method="least-squares").model


def test_it_moves_is_saved_and_exported_from_there(tmp_path: Path) -> None:
    base, model = folded()
    there = copy.deepcopy(model).cuda()
    torch.testing.assert_close(there(X.cuda()).cpu(), model(X), rtol=1e-5, atol=1e-6)
    path = ls.save(there, tmp_path / "small.safetensors", base=base.cuda())
    assert next(ls.load(base, path).parameters()).is_cuda
    assert torch.equal(ls.load(base.cpu(), path)(X), model(X))
    assert ls.integrations.to_onnx(there, X.cuda(), tmp_path / "small.onnx").agrees
    assert all(torch.equal(a.cpu(), b) for a, b in zip(there.parameters(), model.parameters(), strict=True))


def test_a_monitor_follows_its_model() -> None:
    model = folded()[1]
    monitor = ls.Monitor(ls.EmpiricalRisk(model, "mse", (X, X[:, :2])))
    first = monitor.record(0)
    model.cuda()
    assert monitor.record(1).value == pytest.approx(first.value, rel=1e-4)
    model.cpu()
    assert monitor.record(2).value == pytest.approx(first.value, rel=1e-6)
