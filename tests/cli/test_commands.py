"""The commands on a user's own files: certify, lift, fold, and back."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
    assert all(name in done.stdout for name in ("demo", "certify", "lift", "fold"))
    assert done.stdout.strip().endswith("False")


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
