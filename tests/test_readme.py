"""The README's programs run in their order and print what it says; its tables are those of the committed results."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from liftscape.report import claims_as_markdown, verdicts_as_markdown
from liftscape.studies.runner import run_study

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
PROGRAMS = [text for kind, text in BLOCKS if kind == "python"]
RESULTS = sorted((ROOT / "docs" / "results").glob("*/result.json"))
LONGEST = 110


def printed(program: str) -> list[str]:
    """Return the output that a program's comments claim: beside a call of print, or on lines of their own below it."""
    return re.findall(r"^(?:print\(.*\)  # |# )(.*)$", program, re.MULTILINE)


def without_rounding(lines: list[str]) -> list[str]:
    """Hide numbers that rounding alone makes, such as a residual bound of 2e-12."""
    return [re.sub(r"\d(\.\d+)?e-\d+", "ε", line).rstrip() for line in lines]


def test_the_programs_print_what_the_readme_says(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(PROGRAMS)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [line for program in PROGRAMS for line in printed(program)]
    assert without_rounding(done.stdout.splitlines()) == without_rounding(said)


@pytest.mark.long
def test_the_study_finds_what_the_readme_says(tmp_path: Path) -> None:
    claims = run_study("strict-saddle", tmp_path / "study", size="toy").claims
    found = "".join(f"{claim.verdict}: {claim.statement}\n" for claim in claims)
    assert found in [text for _, text in BLOCKS]


@pytest.mark.parametrize(
    ("page", "table"), [("README.md", verdicts_as_markdown), ("docs/claims.md", claims_as_markdown)]
)
def test_the_tables_of_claims_are_those_of_the_committed_results(page: str, table: object) -> None:
    assert callable(table)
    written = (ROOT / page).read_text("utf-8").split("<!-- claims -->")[1].strip()
    assert written == table(RESULTS)


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= LONGEST
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)
