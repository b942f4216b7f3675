"""The README's programs run as they stand and print what stands beside them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from liftscape.report import claims_as_markdown

ROOT = Path(__file__).parent.parent
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS, ids=["ten lines", "curvature", "layers", "width and escape"])
def test_a_program_prints_what_it_says(program: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == re.findall(r"print\(.*\)  # (.*)", program)


def test_the_table_of_claims_is_that_of_the_committed_results() -> None:
    results = sorted((ROOT / "docs" / "results").glob("*/result.json"))
    written = (ROOT / "README.md").read_text("utf-8").split("<!-- claims -->")[1].strip()
    assert written == claims_as_markdown(results)
