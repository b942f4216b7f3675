"""Packages that only some need, imported when they are needed."""

from importlib import import_module
from types import ModuleType

from liftscape.outcomes import MissingPackageError

__all__ = ["import_extra", "missing"]


def import_extra(name: str, extra: str, purpose: str) -> ModuleType:
    """Import a package of an extra, or say how to install it.

    Args:
        name: of the module.
        extra: of liftscape, that brings it.
        purpose: what it is needed for, as the start of a sentence.

    Returns:
        The module.

    Raises:
        MissingPackageError: if it cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackageError(missing(error, name, extra, purpose)) from error


def missing(error: ImportError, name: str, extra: str, purpose: str) -> str:
    """Return what to say of a package that cannot be imported.

    Args:
        error: that its import raised.
        name: of the module.
        extra: of liftscape, that brings it.
        purpose: what it is needed for, as the start of a sentence.

    Returns:
        The sentence.
    """
    reason = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported: {error}"
    return f"{purpose} needs {name.partition('.')[0]}, which {reason}; pip install 'liftscape[{extra}]'."
