"""A folder as a user has it: a model, data, and many ways to get them wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

def with_dropout():
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))

def with_batch_norm():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

def integers():
    model = build()
    model[0].weight = nn.Parameter(torch.ones(4, 3, dtype=torch.int64), requires_grad=False)
    return model

def no_model():
    return 3

def with_argument(width):
    return nn.Linear(3, width)

def raising():
    return undefined_name
"""
DATA = """
import torch

def draws(n=40):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=g)
    return x, torch.sin(x.sum(1, keepdim=True))

def load():
    return draws()

def two_batches():
    x, y = draws()
    return [(x[:30], y[:30]), (x[30:], y[30:])]

def one_shot():
    x, y = draws()
    return ((a, b) for a, b in [(x, y)])

def broadcasting():
    x, y = draws()
    return x, y[:, 0]

def lengths():
    x, y = draws()
    return x, y[:-1]

def with_nan():
    x, y = draws()
    x[7, 1] = float("nan")
    return x, y

def empty():
    x, y = draws()
    return x[:0], y[:0]

def classes():
    x, _ = draws()
    return x, torch.full((40,), 5)
"""
PENALISED = """
import torch

def loss(output, target):
    return ((output - target) ** 2).mean() + 1e-3 * torch.ones(3, requires_grad=True).sum() * output.detach().sum()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with its files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "my_data.py").write_text(DATA)
    (tmp_path / "broken.py").write_text("import torch\nvalue = 1 / 0\n")
    save_file({"0.weight": torch.zeros(4, 3)}, tmp_path / "few.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "few.safetensors").read_bytes()[:40])
    return tmp_path


@pytest.fixture
def command(folder: Path, capfd: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs one command in the folder: status, stdout, stderr."""
    from liftscape.cli._app import run

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = run(arguments)
        out, err = capfd.readouterr()
        return status, out, err

    return call
