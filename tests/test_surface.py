"""docs/surface.md lists every public name; ``python tests/test_surface.py`` writes it again."""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import liftscape as ls
from liftscape.outcomes import MissingPackageError

PAGE = Path(__file__).parent.parent / "docs" / "surface.md"
# Packages whose ``__all__`` is for users; of the others only what ``liftscape`` itself lists.
PUBLIC = (
    "activations",
    "checks",
    "critical",
    "curvature",
    "data",
    "embedding",
    "escaping",
    "folding",
    "inspection",
    "integrations",
    "nets",
    "outcomes",
    "report",
    "training",
)
STABLE_PACKAGES = ("checks", "data", "integrations")
TEXT = """# The public surface

**Stable** names change only with a new major version and an entry in the changelog: the verbs and results that
`liftscape` itself lists, the errors, the checks, the data sets and the integrations. **Provisional** names may change
with any minor version. Whatever is not listed here is not public: the packages `cli`, `derivatives`, `functional`,
`linearity`, `memory`, `operators`, `risk`, `samples`, `sites`, `statistics`, `storage` and `studies` but for what
`liftscape` lists of them, every module whose name begins with an underscore, and modules within packages, such as
`embedding.parts`. Results that a public function returns keep their attributes as long as the function is stable.
"""


def summary(value: object) -> str:
    """Return the first sentence of a docstring; none for values that are no functions, classes or modules."""
    if not (inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value)):
        return ""
    first = (inspect.getdoc(value) or "").split("\n\n")[0]
    return re.sub(r"\s+", " ", first).replace("|", "\\|").replace("<", "&lt;")


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield name, status and summary of every public name."""
    for name in sorted(set(ls.__all__) - {"__version__"}):
        yield f"ls.{name}", "stable", summary(getattr(ls, name))
    for package in PUBLIC:
        module = importlib.import_module(f"liftscape.{package}")
        prefix = f"ls.{package}" if package in ls.__all__ else f"liftscape.{package}"
        for name in sorted(set(module.__all__) - set(ls.__all__)):
            try:
                value = getattr(module, name)
            except MissingPackageError:
                value = None
            is_error = inspect.isclass(value) and issubclass(value, Exception)
            status = "stable" if package in STABLE_PACKAGES or is_error else "provisional"
            yield f"{prefix}.{name}", status, summary(value)


def page() -> str:
    """Return the page."""
    lines = [f"| `{name}` | {status} | {text} |" for name, status, text in rows()]
    return "\n".join([TEXT, "| name | status | what it is |", "|---|---|---|", *lines, ""])


def without_summaries(text: str) -> list[str]:
    """Return the lines without the last column, which needs every extra package."""
    return [line.rsplit(" | ", 1)[0] if line.startswith("| `") else line for line in text.splitlines()]


def test_the_page_lists_the_public_names() -> None:
    assert without_summaries(PAGE.read_text("utf-8")) == without_summaries(page())


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
