"""Other libraries are imported late, and one sentence says how to install those that are missing."""

import subprocess
import sys

import pytest

LIBRARIES = ("onnx", "onnxscript", "onnxruntime", "lightning", "transformers")
USES = {
    "onnx": "to_onnx(nn.Linear(1, 1), torch.ones(2, 1), 'never.onnx')",
    "onnxruntime": "to_onnx(nn.Linear(1, 1), torch.ones(2, 1), 'never.onnx')",
    "onnxscript": "to_onnx(nn.Linear(1, 1), torch.ones(2, 1), 'never.onnx')",
    "lightning": "LightningMonitor",
    "transformers": "TrainerMonitor",
}


def run(script: str, folder: object) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout.strip()


def test_nothing_is_imported_before_it_is_asked_for(tmp_path: object) -> None:
    script = (
        "import sys, liftscape.integrations, liftscape.training, liftscape.cli._app\n"
        "dir(liftscape.integrations)\n"
        f"print([name for name in {LIBRARIES} if name in sys.modules])"
    )
    assert run(script, tmp_path) == "[]"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_package_is_named_with_its_extra(library: str, tmp_path: object) -> None:
    extra = "onnx" if library.startswith("onnx") else library
    script = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "import torch, liftscape as ls\n"
        "from torch import nn\n"
        "try:\n"
        f"    ls.integrations.{USES[library]}\n"
        "except ls.LiftscapeError as error:\n"
        "    print(error)"
    )
    said = run(script, tmp_path)
    assert said.endswith(f"needs {library}, which is not installed; pip install 'liftscape[{extra}]'.")
    assert said.startswith({"lightning": "LightningMonitor", "transformers": "TrainerMonitor"}.get(library, "an ONNX"))
