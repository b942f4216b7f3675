"""Every public name exists, is documented with an example, and private modules hide behind `__all__`."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import liftscape as ls
from liftscape.outcomes import MissingPackageError

PACKAGES = [module.name for module in pkgutil.walk_packages(ls.__path__, "liftscape.") if "._" not in module.name]


def test_all_names_are_there_and_dir_lists_them() -> None:
    assert set(ls.__all__) <= set(dir(ls))
    assert all(getattr(ls, name) is not None for name in ls.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ls.nothing


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_lists_what_it_has(package: str) -> None:
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", []):
        try:
            assert hasattr(module, name), f"{package} lists {name}"
        except MissingPackageError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("name", sorted(set(ls.__all__) - {"__version__"}))
def test_public_names_have_theorem_cards(name: str) -> None:
    documented = getattr(ls, name)
    assert documented.__doc__
    if callable(documented) and not isinstance(documented, type):
        for part in ("Args:", "Returns:", "Example:"):
            assert part in documented.__doc__, f"{name} lacks {part}"


@pytest.mark.parametrize("package", ["liftscape", "liftscape.integrations"])
def test_type_checkers_see_the_names_that_are_loaded_on_first_use(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [(node.module, name.name) for node in guarded.body for name in node.names]  # pyright: ignore[reportAttributeAccessIssue]
    loaded = {(f"{package}.{home}", name) for name, home in module._MODULE_OF.items()}
    loaded |= {(package, name) for name in getattr(module, "_SUBPACKAGES", ())}
    assert sorted(imports) == sorted(loaded)
