"""Modules import in one direction, and only their own package's private modules."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import liftscape

ROOT = Path(liftscape.__file__).parent
MODULES = {
    ".".join(("liftscape", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def imports(source: str, modules: frozenset[str]) -> Iterator[str]:
    """Yield the modules that a source imports, also within functions and under TYPE_CHECKING; not the root package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            named = (f"{node.module}.{alias.name}" for alias in node.names)
            found = (name if name in modules else node.module for name in named)
            yield from (name for name in found if name in modules)


def edges() -> dict[str, set[str]]:
    """Return for each module those that it imports; the root package loads its names lazily, so it is left out."""
    known = frozenset(MODULES) - {"liftscape"}
    return {name: set(imports(MODULES[name].read_text("utf-8"), known)) for name in known}


def test_no_module_imports_itself_through_others() -> None:
    try:
        TopologicalSorter(edges()).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' → '.join(error.args[1])}")


def test_no_package_imports_anothers_private_modules() -> None:
    package = lambda module: module.split(".")[1]
    private = [
        f"{name} imports {imported}"
        for name, found in edges().items()
        for imported in found
        if package(name) != package(imported) and any(part.startswith("_") for part in imported.split(".")[2:])
    ]
    assert private == []


def test_a_circle_would_be_seen() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import b\ndef f():\n    import c\n"
    assert list(imports(source, frozenset({"a.b", "c"}))) == ["a.b", "c"]
