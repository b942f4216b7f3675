"""Writing files so that a reader never meets half of one."""

import os
import tempfile
from pathlib import Path

from liftscape.outcomes import LoadError

__all__ = ["require_folder", "write_atomically"]


def require_folder(place: Path) -> None:
    """Raise unless the folder of a file exists, or can be made.

    Args:
        place: the file.

    Raises:
        LoadError: if a file is in its way.
    """
    nearest = next(parent for parent in place.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise LoadError(f"{place} cannot be written, since {nearest} is a file; name another folder.")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there in one step.

    Args:
        path: the file; its folder must exist.
        content: its bytes.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes files that only their owner may read.
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
