"""The example runs, and what it writes is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "fold_and_export.py"


def test_a_network_is_folded_saved_built_again_and_exported(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    done = subprocess.run([sys.executable, EXAMPLE, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"[12] of 2 layers leave within the budget\. onnxruntime agrees with torch: True\n", done.stdout
    ), done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"small.onnx", "small.recipe.json", "small.safetensors"}
