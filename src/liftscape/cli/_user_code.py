"""Functions of the user's own, named as ``file.py:function`` or ``package.module:function``."""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from liftscape.outcomes import LoadError

__all__ = ["call_user", "find_user_object", "is_reference"]


def is_reference(text: str) -> bool:
    """Tell ``file.py:function`` or ``package.module:function`` from the name of a file."""
    place, _, name = text.rpartition(":")
    return bool(place) and name.isidentifier()


def find_user_object(reference: str, role: str) -> Any:
    """Import the place that a reference names and return the object under its name.

    Args:
        reference: ``file.py:function`` or ``package.module:function``.
        role: what is asked for ("model", "data", "loss"), for the refusal.

    Returns:
        The object, not called.

    Raises:
        LoadError: if the reference has another form, the file or module does not exist or raises on import, or it has
            no such name (the nearest one is offered).

    Example:
        >>> find_user_object("math:sqrt", "loss")(4.0)
        2.0
    """
    if not is_reference(reference):
        raise LoadError(
            f"the {role} must be named as file.py:function or package.module:function, but {reference!r} was given."
        )
    place, _, name = reference.rpartition(":")
    module = _import_file(Path(place), role) if _is_path(place) else _import_module(place, role)
    if not hasattr(module, name):
        raise LoadError(f"{place} has no function '{name}'; {_offer(module, name)}")
    return getattr(module, name)


def call_user(function: Callable[[], Any], reference: str) -> Any:
    """Call a function of the user's without arguments.

    Args:
        function: the function.
        reference: how the user named it.

    Returns:
        What it returns.

    Raises:
        LoadError: if it needs arguments or raises; the sentence shows where.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None
    if signature is not None:
        try:
            signature.bind()
        except TypeError as error:
            raise LoadError(
                f"{reference} is called without arguments, but it takes {signature}; give its arguments defaults."
            ) from error
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise LoadError(f"{reference} raised when it was called: {_blame(error, _file_of(function))}.") from error


def _is_path(place: str) -> bool:
    """Tell a file's path from a module's dotted name."""
    return place.endswith(".py") or "/" in place or "\\" in place


def _import_file(path: Path, role: str) -> ModuleType:
    """Run a file once, with its own folder importable, as Python does for a script."""
    if not path.is_file():
        nearest = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.glob("*.py")], n=1)
        hint = f"did you mean '{path.with_name(nearest[0])}'?" if nearest else "name a Python file."
        raise LoadError(f"there is no file {path} to read the {role} from; {hint}")
    resolved = path.resolve()
    name = f"_liftscape_{resolved.stem}_{hashlib.sha256(str(resolved).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is no Python file; the {role} is read from file.py:function.")
    _make_importable(resolved.parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise LoadError(f"{path} raised on import: {_blame(error, str(resolved))}.") from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(dotted: str, role: str) -> ModuleType:
    """Import a module by its dotted name, with the current folder importable."""
    _make_importable(Path.cwd())
    try:
        return importlib.import_module(dotted)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (dotted == missing or dotted.startswith(f"{missing}.")):
            raise LoadError(
                f"there is no module '{missing}' to read the {role} from; it must be installed or lie in {Path.cwd()}."
            ) from error
        raise LoadError(f"{dotted} raised on import: {_blame(error, None)}.") from error


def _make_importable(folder: Path) -> None:
    """Put a folder in front of the module search path, once."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _offer(module: ModuleType, name: str) -> str:
    """Offer the nearest function of a module, or list all it has."""
    own = [key for key, entry in vars(module).items() if callable(entry) and not key.startswith("_")]
    nearest = difflib.get_close_matches(name, own, n=1, cutoff=0.5)
    if nearest:
        return f"did you mean '{nearest[0]}'?"
    return f"it has {', '.join(own[:8])}." if own else "it has no functions."


def _blame(error: BaseException, file: str | None) -> str:
    """Say which line of whose file raised what: the last line in the user's file, and the innermost if another's."""
    what = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": .")
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<frozen")
    ]
    own = [frame for frame in frames if frame.filename == file]
    if not frames:
        return what
    frame = (own or frames)[-1]
    return f"{what} ({frame.filename}, line {frame.lineno})"


def _file_of(function: Callable[..., Any]) -> str | None:
    """Return the file in which a function is written."""
    try:
        return inspect.getsourcefile(function)
    except TypeError:
        return None
