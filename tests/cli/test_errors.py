"""Bad input gets one line on stderr that names it, status 2, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("model", "data", "more", "sentence"),
    [
        ("my_model.py:buidl", "my_data.py:load", (), "my_model.py has no function 'buidl'"),
        ("missing.py:build", "my_data.py:load", (), "there is no file missing.py"),
        ("my_model.py", "my_data.py:load", (), "file.py:function"),
        ("broken.py:build", "my_data.py:load", (), "broken.py raised on import: ZeroDivisionError"),
        ("my_model.py:raising", "my_data.py:load", (), "NameError"),
        ("my_model.py:no_model", "my_data.py:load", (), "must return a torch.nn.Module"),
        ("my_model.py:with_argument", "my_data.py:load", (), "called without arguments"),
        ("my_model.py:with_dropout", "my_data.py:load", (), "'1'"),
        ("my_model.py:with_batch_norm", "my_data.py:two_batches", (), "BatchNorm"),
        ("my_model.py:integers", "my_data.py:load", (), "0.weight"),
        ("my_model.py:build", "my_data.py:one_shot", (), "one-shot generator"),
        ("my_model.py:build", "my_data.py:broadcasting", (), r"\(40, 1\).*\(40,\)|\(40,\).*\(40, 1\)"),
        ("my_model.py:build", "my_data.py:lengths", (), "40.*39"),
        ("my_model.py:build", "my_data.py:with_nan", (), "7"),
        ("my_model.py:build", "my_data.py:empty", (), "no samples|empty|0 samples"),
        ("my_model.py:build", "my_data.py:classes", ("--loss", "cross_entropy"), "5"),
        ("my_model.py:build", "my_data.py:load", ("--loss", "mes"), "mse"),
        ("my_model.py:build", "my_data.py:load", ("--weights", "few.safetensors"), "missing: 0.bias"),
        ("my_model.py:build", "my_data.py:load", ("--weights", "cut.safetensors"), "truncated"),
        ("my_model.py:build", "data.csv", (), "npz"),
    ],
)
def test_one_line_names_what_is_wrong(
    command: Command, folder: Path, model: str, data: str, more: tuple[str, ...], sentence: str
) -> None:
    before = sorted(folder.rglob("*.json"))
    loss = () if "--loss" in more else ("--loss", "mse")
    status, out, err = command("certify", model, "--data", data, *loss, *more, "--out", "certificate.json")
    assert (status, out) == (2, "")
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("liftscape: ")
    assert re.search(sentence, lines[0]), lines[0]
    assert sorted(folder.rglob("*.json")) == before


def test_a_name_that_does_not_exist_is_offered_the_nearest(command: Command) -> None:
    status, _, err = command("lift", "my_model.py:build", "--data", "my_data.py:load", "--at", "22", "--out", "lifted")
    assert status == 2
    assert "did you mean '2'?" in err
    assert not Path("lifted").exists()


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a folder in which nobody may write")
def test_a_place_that_cannot_be_written_to_is_named_in_one_line(command: Command) -> None:
    options = ("my_model.py:build", "--data", "my_data.py:load", "--loss", "mse", "--out", "/proc/here/report")
    status, out, err = command("inspect", *options)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"liftscape: /proc/?\S* (could not be used|may not be written to).*\n", err), err


def test_ctrl_c_ends_with_one_line(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "liftscape", "demo", "--out", "demo"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A background job inherits an ignored SIGINT, which no terminal would give it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    # A shell shows both as 130: Python itself dies of the signal where it interrupted an exec() inside an import.
    assert process.returncode in {130, -signal.SIGINT}
    assert err.strip().splitlines() == ["liftscape: interrupted; nothing was written."]
    assert not (folder / "demo").exists()


def test_held_out_data_that_do_not_fit_are_told_in_one_line(command: Command, folder: Path) -> None:
    (folder / "narrow.py").write_text("import torch\ndef load():\n    return torch.ones(9, 2), torch.ones(9, 1)\n")
    arguments = ("fold", "my_model.py:build", "--data", "my_data.py:load", "--budget", "1%", "--out", "small")
    status, out, err = command(*arguments, "--held-out", "narrow.py:load")
    assert (status, out) == (2, "")
    assert re.search(r"liftscape: Sequential raised on inputs of shape \(9, 2\) .* give inputs that fit it", err), err
    assert not Path("small").exists()


def test_held_out_data_without_a_budget_are_not_ignored(command: Command) -> None:
    arguments = ("fold", "my_model.py:build", "--data", "my_data.py:load", "--out", "small")
    status, out, err = command(*arguments, "--held-out", "my_data.py:load")
    assert (status, out) == (2, "")
    assert "give --budget too" in err
    assert not Path("small").exists()


@pytest.mark.parametrize("places", [("--out", "small", "--onnx", "my_model.py/z.onnx"), ("--out", "my_model.py/small")])
def test_a_place_below_a_file_is_told_before_anything_is_written(
    command: Command, folder: Path, places: tuple[str, ...]
) -> None:
    before = sorted(folder.rglob("*"))
    status, out, err = command("fold", "my_model.py:build", "--data", "my_data.py:load", *places)
    assert (status, out) == (2, "")
    assert "my_model.py is a file; name another folder" in " ".join(err.split())
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts] == before
