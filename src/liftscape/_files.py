"""Writing files so that a reader never meets half of one."""

import os
import tempfile
import zipfile
from collections.abc import Collection
from pathlib import Path

from liftscape.outcomes import LoadError

__all__ = ["LARGEST", "require_folder", "require_unpacked", "write_atomically"]

# Bytes to which a file may unpack: one of a few kilobytes may hold more than any memory.
LARGEST = 4 * 2**30
_GIB = 2**30


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


def require_unpacked(path: Path, largest: int = LARGEST, names: Collection[str] | None = None) -> None:
    """Raise if an archive unpacks to more than a limit; nothing of it is read but its list of contents.

    Args:
        path: a file; one that is no zip archive is left to its reader.
        largest: bytes.
        names: of the members that count; all of them when None.

    Raises:
        LoadError: if it does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [own.file_size for own in archive.infolist() if names is None or own.filename in names]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return
    if sum(sizes) > largest:
        raise LoadError(
            f"{path} ({path.stat().st_size} bytes) unpacks to {sum(sizes) / _GIB:.1f} GiB, more than the "
            f"{largest / _GIB:.1f} GiB that are read at once; give a function that returns it in batches."
        )


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
