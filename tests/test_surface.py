"""docs/surface.md lists every public name as it is called."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import liftscape as ls

PAGE = Path(__file__).parent.parent / "docs" / "surface.md"
LINES = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
ROWS = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in LINES]
PUBLIC = {
    f"{prefix}{name}": getattr(module, name)
    for prefix, module in {"ls.": ls, "ls.curvature.": ls.curvature, "ls.checks.": ls.checks}.items()
    for name in module.__all__
    if name != "__version__"
}


def call(name: str, value: Any) -> str:
    """Return how a name is called, without types and defaults; a class that verbs return is only named."""
    if not inspect.isfunction(value):
        return f"`{name}`"
    words, named = [], False
    for each in inspect.signature(value).parameters.values():
        if each.kind is each.KEYWORD_ONLY and not named:
            words.append("*")
        named |= each.kind in {each.KEYWORD_ONLY, each.VAR_POSITIONAL}
        words.append({each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "") + each.name)
    return f"`{name}({', '.join(words)})`"


def test_each_public_name_is_listed_once_as_it_is_called() -> None:
    assert sorted(row[0] for row in ROWS) == sorted(call(name, value) for name, value in PUBLIC.items())


@pytest.mark.parametrize("row", ROWS, ids=[re.sub(r"[`(].*", "", row[0][1:]) for row in ROWS])
def test_a_row_says_what_the_name_is_and_whether_it_is_stable(row: tuple[str, ...]) -> None:
    _, first, standing = row
    assert first.endswith(".")
    assert standing in {"stable", "provisional"}
