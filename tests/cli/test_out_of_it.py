"""A folded network leaves the command line as safetensors with its recipe, and as ONNX."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import liftscape as ls

Command = Callable[..., tuple[int, str, str]]
MODEL, DATA = "my_model.py:build", "my_data.py:load"
FOLD = ("fold", MODEL, "--data", DATA, "--loss", "mse", "--budget", "1000000%")


def from_file(name: str, function: str) -> object:
    return runpy.run_path(name)[function]()


def test_a_file_is_written_with_its_recipe_beside_it_and_taken_up_again(command: Command) -> None:
    status, out, err = command(*FOLD, "--out", "there/small.safetensors", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["out"], found["onnx"]) == ("there/small.safetensors", None)
    assert sorted(path.name for path in Path("there").iterdir()) == ["small.recipe.json", "small.safetensors"]
    with safe_open("there/small.safetensors", "pt") as opened:
        assert set(opened.keys()) == {"2.weight", "2.bias"}
        assert opened.metadata()["liftscape"] == Path("there/small.recipe.json").read_text(encoding="utf-8")
    again = ("--data", DATA, "--loss", "mse", "--recipe", "there/small.safetensors", "--json")
    status, out, err = command("certify", MODEL, *again)
    assert (status, err) == (0, "")
    assert json.loads(out)["loss"] == pytest.approx(found["steps"][1]["loss"], rel=1e-12)
    assert command(*FOLD, "--out", "there/small.safetensors")[0] == 0


def test_a_lift_is_written_to_a_file_and_folded_from_there(command: Command) -> None:
    lift = ("lift", MODEL, "--data", DATA, "--at", "2", "--activation", "elu", "--out", "deep.safetensors")
    assert command(*lift)[0] == 0
    fold = ("fold", MODEL, "--data", DATA, "--recipe", "deep.safetensors", "--out", "back.safetensors", "--json")
    status, out, err = command(*fold)
    assert (status, err) == (0, "")
    assert json.loads(out)["removed"] == ["2.activation"]


def test_an_onnx_file_is_run_beside_torch(command: Command) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    status, out, err = command(*FOLD, "--out", "small.safetensors", "--onnx", "onnx/small.onnx", "--json")
    assert (status, err) == (0, "")
    exported = json.loads(out)["onnx"]
    assert exported["agrees"]
    assert exported["gap"] <= 1e-5
    x, _ = from_file("my_data.py", "load")
    (seen,) = runtime.InferenceSession("onnx/small.onnx").run(None, {"input": x.numpy()})
    folded = ls.load(lambda: from_file("my_model.py", "build"), "small.safetensors")
    torch.testing.assert_close(torch.from_numpy(seen).double(), folded(x.double()), rtol=1e-5, atol=1e-6)
    content = Path("onnx/small.onnx").read_bytes()
    status, out, err = command(*FOLD, "--out", "small.safetensors", "--onnx", "onnx/small.onnx")
    assert (status, err) == (0, "")
    assert "gap of onnxruntime to torch" in out
    assert "within 1e-05" in out
    assert Path("onnx/small.onnx").read_bytes() == content


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--out", "small.safetensors", "--onnx", "small.safetensors"), "would overwrite what --out"),
        (("--out", "small", "--onnx", "small/model.safetensors"), "would overwrite what --out"),
        (("--out", "small.safetensors", "--onnx", "taken"), "taken is a folder; name a file such as taken/model.onnx"),
        (("--out", "small.safetensors", "--onnx", "mine.onnx"), "mine.onnx already holds another network"),
        (("--out", "mine.safetensors", "--onnx", "small.onnx"), "mine.safetensors already holds another network"),
        (("--out", "taken.safetensors"), "taken.safetensors is a folder"),
        (("--out", "mine.onnx"), "mine.onnx is a file; name a folder"),
    ],
)
def test_what_may_not_be_written_is_refused_and_nothing_is_changed(
    command: Command, more: tuple[str, ...], sentence: str
) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    for name in ("taken", "taken.safetensors"):
        Path(name).mkdir()
    for name in ("mine.onnx", "mine.safetensors"):
        Path(name).write_bytes(b"mine")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.suffix != ".pyc"}
    status, out, err = command(*FOLD, *more)
    assert (status, out) == (2, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert after == before


def test_without_onnxruntime_the_extra_is_named_before_the_work(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, _, err = command(*FOLD, "--out", "small.safetensors", "--onnx", "small.onnx")
    assert status == 2
    assert err == (
        "liftscape: an ONNX file needs onnxruntime, which is not installed; pip install 'liftscape[onnx]'.\n"
    )
    assert not Path("small.safetensors").exists()
