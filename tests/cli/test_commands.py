"""The commands on a user's own files: certify, lift, fold, and back."""

import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]
MODEL, DATA = "my_model.py:build", "my_data.py:load"


def test_help_names_every_command_and_imports_no_torch() -> None:
    script = (
        "import sys\n"
        "from liftscape.cli._app import run\n"
        "try:\n    run(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("demo", "inspect", "certify", "lift", "fold", "escape"))
    assert done.stdout.strip().endswith("False")


def test_help_describes_each_command_as_its_docstring_does() -> None:
    from liftscape.cli._descriptions import DESCRIPTIONS

    for name, description in DESCRIPTIONS.items():
        command = getattr(importlib.import_module(f"liftscape.cli._{name}"), name)
        assert description == inspect.getdoc(command)


def test_certify_after_a_search_says_what_the_point_is(command: Command) -> None:
    options = ("--data", DATA, "--loss", "mse", "--search", "minimum")
    status, out, err = command("certify", MODEL, *options, "--json", "--out", "certificate.json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert result == json.loads(Path("certificate.json").read_text())
    assert result["search"]["status"] in {"converged", "diverging", "gradient-flat", "not converged"}
    assert result["certificate"]["kind"]
    status, out, _ = command("certify", MODEL, "--data", "my_data.py:two_batches", "--loss", "mse")
    assert status == 0
    assert "not critical" in out


def test_certify_writes_a_report_with_the_layers(command: Command) -> None:
    status, out, err = command("certify", MODEL, "--data", DATA, "--loss", "mse", "--out", "seen")
    assert (status, err) == (0, "")
    assert "where training stands" in out
    assert all(column in out for column in ("parameters", "trace", "lowest eigenvalue", "highest eigenvalue"))
    page = Path("seen/report.html").read_text(encoding="utf-8")
    assert "not critical" in page
    assert "whole network" in page
    assert json.loads(Path("seen/result.json").read_text())["certificate"]["kind"] == "not critical"


def test_certify_says_how_far_the_outputs_are_curved(command: Command) -> None:
    Path("affine.py").write_text("import torch\n\ndef build():\n    return torch.nn.Linear(3, 1)\n")
    options = ("--data", DATA, "--loss", "mse", "--search", "minimum", "--out", "certificate.json")
    status, out, _ = command("certify", "affine.py:build", *options)
    assert status == 0
    shown = " ".join(out.split())
    assert "curvature of outputs" in shown
    assert "may be truly bad True" in shown
    evidence = json.loads(Path("certificate.json").read_text())["certificate"]["evidence"]
    assert evidence["curvature_of_outputs"] < 1e-13


def test_inspect_reads_every_layer_and_writes_a_report(command: Command) -> None:
    options = ("inspect", MODEL, "--data", DATA, "--loss", "mse")
    status, out, err = command(*options)
    assert (status, err) == (0, "")
    assert "Report: inspection/report.html" in out
    written = Path("inspection/result.json").read_bytes()
    status, out, err = command(*options, "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert result == json.loads(written)
    assert [row["layer"] for row in result["layers"]] == ["0", "2"]
    assert sum(row["parameters"] for row in result["layers"]) == result["parameters"] == 21
    assert sorted(path.name for path in Path().iterdir() if path.is_dir() and path.name != "__pycache__") == [
        "inspection"
    ]


def test_inspect_resumes_from_a_checkpoint_and_refuses_that_of_other_work(command: Command) -> None:
    options = ("inspect", MODEL, "--data", DATA, "--loss", "mse", "--json")
    _, expected, _ = command(*options)
    for _ in range(2):
        assert command(*options, "--checkpoint", "work") == (0, expected, "")
    status, out, err = command(*options, "--checkpoint", "work", "--probes", "20")
    assert (status, out) == (2, "")
    assert "work/network is a checkpoint of other work, which differs in probes; name another folder" in err
    Path("file").touch()
    status, out, err = command(*options, "--checkpoint", "file")
    assert (status, out) == (2, "")
    assert "file" in err
    assert len(err.strip().splitlines()) == 1


def test_inspect_of_a_layer_that_is_not_there_names_those_that_are(command: Command) -> None:
    status, out, err = command("inspect", MODEL, "--data", DATA, "--loss", "mse", "--layers", "1")
    assert (status, out) == (2, "")
    assert err == "liftscape: there is no layer '1'; the layers are 0, 2.\n"


def test_a_strangers_page_is_refused_before_the_work(command: Command) -> None:
    Path("thesis").mkdir()
    page = Path("thesis/report.html")
    page.write_text("<h1>mine</h1>", encoding="utf-8")
    for name in ("inspect", "certify"):
        status, _, err = command(name, MODEL, "--data", DATA, "--loss", "mse", "--out", "thesis")
        assert status == 2
        assert "is no report of liftscape's, so it is not overwritten" in err
    assert page.read_text(encoding="utf-8") == "<h1>mine</h1>"


def test_lift_then_fold_leads_back(command: Command) -> None:
    lifting = ("--at", "2", "--width", "6", "--activation", "elu", "--out", "lifted", "--json")
    status, out, err = command("lift", MODEL, "--data", DATA, *lifting)
    assert (status, err) == (0, "")
    assert json.loads(out)
    files = {path.name: path.read_bytes() for path in Path("lifted").iterdir()}
    assert sorted(files) == ["model.safetensors", "recipe.json"]
    status, out, err = command("fold", MODEL, "--data", DATA, "--recipe", "lifted", "--out", "folded")
    assert (status, err) == (0, "")
    assert "2.activation" in out
    status, out, _ = command("certify", MODEL, "--data", DATA, "--loss", "mse", "--recipe", "folded", "--json")
    folded = json.loads(out)
    _, out, _ = command("certify", MODEL, "--data", DATA, "--loss", "mse", "--json")
    assert abs(folded["loss"] - json.loads(out)["loss"]) < 1e-12
    assert files == {path.name: path.read_bytes() for path in Path("lifted").iterdir()}


def test_the_same_seed_gives_the_same_bytes_and_another_network_is_not_overwritten(command: Command) -> None:
    options = ("lift", MODEL, "--data", DATA, "--at", "2", "--activation", "relu", "--out", "lifted")
    assert command(*options)[0] == 0
    first = Path("lifted/model.safetensors").read_bytes()
    assert command(*options)[0] == 0
    assert Path("lifted/model.safetensors").read_bytes() == first
    status, _, err = command(*options, "--seed", "7")
    assert status == 2
    assert "already holds another network" in err
    assert Path("lifted/model.safetensors").read_bytes() == first


def test_a_budget_is_kept_and_the_network_loads_again(command: Command) -> None:
    arguments = ("fold", MODEL, "--data", DATA, "--loss", "mse", "--dtype", "float64", "--json")
    status, out, err = command(*arguments, "--budget", "1000000%", "--held-out", DATA, "--out", "small")
    assert status == 0, err
    found = json.loads(out)
    assert found["removed"] == ["1"]
    assert [step["operations"] for step in found["steps"]] == [16, 3]
    status, out, _ = command("certify", MODEL, "--data", DATA, "--loss", "mse", "--recipe", "small", "--json")
    assert json.loads(out)["loss"] == pytest.approx(found["steps"][1]["loss"], rel=1e-12)
    status, out, err = command(*arguments[:-1], "--budget", "0", "--out", "same")
    assert status == 0, err
    assert "1 of 1 layers leave within the budget" in " ".join(out.split())
    for wrong in ("--budget=lots", "--budget=-1", "--budget=inf", "--budget=1%%", "--budget -1%"):
        status, _, err = command(*arguments, *wrong.split(), "--out", "none")
        assert status == 2
        assert "--budget must be" in err


@pytest.mark.parametrize(("targets", "loss"), [("torch.sin(x)", "mse"), ("(x[:, 0] > 0).long()", "cross_entropy")])
def test_the_usual_loss_of_the_targets_is_taken_and_told(
    command: Command, folder: Path, targets: str, loss: str
) -> None:
    code = f"import torch\ndef load():\n    x = torch.linspace(-1, 1, 60).reshape(20, 3)\n    return x, {targets}\n"
    (folder / "own.py").write_text(code)
    (folder / "net.py").write_text(
        "import torch\ndef build():\n    torch.manual_seed(0)\n    return torch.nn.Linear(3, 3)\n"
    )
    arguments = ("inspect", "net.py:build", "--data", "own.py:load", "--json")
    status, out, err = command(*arguments)
    assert status == 0, err
    assert f"Loss: {loss}, as targets are" in err
    assert out == command(*arguments, "--loss", loss)[1]


@pytest.mark.parametrize("name", ["inspect", "certify"])
def test_a_saturated_classifier_is_read_without_a_traceback(command: Command, name: str) -> None:
    Path("sure.py").write_text(
        "import torch\n\ndef build():\n    model = torch.nn.Linear(3, 3, bias=False, dtype=torch.float64)\n"
        "    model.weight.data = 500 * torch.eye(3, dtype=torch.float64)\n    return model\n\n"
        "def load():\n    return torch.eye(3, dtype=torch.float64), torch.arange(3)\n"
    )
    status, out, err = command(name, "sure.py:build", "--data", "sure.py:load", "--loss", "cross_entropy")
    assert (status, err) == (0, "")
    assert "curvature" in out
