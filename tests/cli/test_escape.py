"""`liftscape escape` on a user's own files: a way down that loads again, none, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]

STUCK = """
import torch
from torch import nn

def draws():
    x = torch.linspace(-1, 1, 40)[:, None]
    return x, x.abs()

def line():
    model = nn.Sequential(nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(float(draws()[1].double().mean()))
    return model

def conflicting():
    x = torch.linspace(-1, 1, 20)[:, None].repeat(2, 1)
    return x, torch.cat([torch.ones(20, 1), -torch.ones(20, 1)])

def flat():
    model = line()
    model[0].bias.data.zero_()
    return model
"""


@pytest.fixture(autouse=True)
def stuck(folder: Path) -> None:
    (folder / "stuck.py").write_text(STUCK)


def test_the_deeper_network_is_written_and_its_loss_is_the_one_that_was_measured(command: Command) -> None:
    options = ("stuck.py:line", "--data", "stuck.py:draws", "--loss", "mse")
    status, out, err = command("escape", *options, "--neurons", "2", "--width", "6", "--out", "deeper", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["status"], found["site"], found["width"], found["exact"]) == ("found", "0", 6, True)
    assert found["decrease"] == pytest.approx(found["predicted_decrease"], rel=1e-9)
    assert sorted(path.name for path in Path("deeper").iterdir()) == ["model.safetensors", "recipe.json"]
    _, out, _ = command("certify", *options, "--recipe", "deeper", "--json")
    assert json.loads(out)["loss"] == pytest.approx(found["value"] - found["decrease"], rel=1e-12)
    status, out, err = command("escape", *options, "--out", "again")
    assert (status, err) == (0, "")
    for part in ("predicted decrease", "measured decrease", "in front of '0'", "again"):
        assert part in out


def test_a_way_down_that_there_is_not_is_said_and_nothing_is_written(command: Command) -> None:
    options = ("escape", "stuck.py:flat", "--data", "stuck.py:conflicting", "--loss", "mse", "--out", "deeper")
    status, out, err = command(*options)
    assert (status, err) == (0, "")
    assert "No half-space separates" in " ".join(out.split())
    assert not Path("deeper").exists()
    found = json.loads(command(*options, "--json")[1])
    assert (found["status"], found["decrease"], found["out"]) == ("none", 0.0, None)


@pytest.mark.parametrize(
    ("model", "more", "sentence"),
    [
        ("my_model.py:build", (), "not stuck: one gradient step of length"),
        ("my_model.py:build", ("--at", "1"), "'1' is a Tanh, not a Linear"),
        ("my_model.py:build", ("--tolerance", "9", "--activation", "tanh"), "no affine piece or tail"),
        ("my_model.py:build", ("--tolerance", "9", "--at", "2", "--width", "1"), "needs a layer of width ≥ 2"),
    ],
)
def test_one_line_names_what_is_wrong(command: Command, model: str, more: tuple[str, ...], sentence: str) -> None:
    status, out, err = command("escape", model, "--data", "my_data.py:load", "--loss", "mse", "--out", "deeper", *more)
    assert (status, out) == (2, "")
    assert err.startswith("liftscape: ")
    assert len(err.strip().splitlines()) == 1
    assert sentence in err
    assert not Path("deeper").exists()
