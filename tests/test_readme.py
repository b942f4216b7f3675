"""The README's programs run as they stand and print what stands beside them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text("utf-8"), re.DOTALL
)


@pytest.mark.parametrize("program", PROGRAMS, ids=["ten lines", "curvature"])
def test_a_program_prints_what_it_says(program: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == re.findall(r"print\(.*\)  # (.*)", program)
