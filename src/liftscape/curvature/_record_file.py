"""A file that grows by one record after another and is read again up to the first that is not whole."""

import hashlib
from pathlib import Path
from typing import final

from liftscape.outcomes import LoadError

__all__ = ["RecordFile"]

_DIGEST = 16


@final
class RecordFile:
    """Payloads in the order in which they were made, each behind a digest of it and of what it belongs to.

    A record that a kill cut off, that is damaged, or that belongs to something else ends the file: it and all behind it
    are dropped, and what they held is made again.

    Args:
        path: the file; it need not exist.
        work: bytes that tell the work from others, up to 64.

    Raises:
        LoadError: if something other than a file is there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     place = Path(folder) / "records"
        ...     RecordFile(place, b"a work").append(b"question", b"answer")
        ...     RecordFile(place, b"a work").take(b"question", 6), RecordFile(place, b"another").take(b"question", 6)
        (bytearray(b'answer'), None)
    """

    def __init__(self, path: Path, work: bytes) -> None:
        if path.exists() and not path.is_file():
            raise LoadError(f"{path} is no file; name another folder, or delete this checkpoint to begin anew.")
        self._path, self._work, self._position = path, work, 0
        self._size = path.stat().st_size if path.exists() else 0

    def take(self, key: bytes | memoryview, length: int) -> bytearray | None:
        """Return the payload of the next record if it is whole and belongs to the key, else end the file here.

        Args:
            key: what the payload belongs to.
            length: of the payload, in bytes.

        Returns:
            The payload, or None.
        """
        if self._position + _DIGEST + length <= self._size:
            payload = bytearray(length)
            with self._path.open("rb") as file:
                file.seek(self._position)
                digest = file.read(_DIGEST)
                file.readinto(payload)
            if digest == self._digest(key, payload):
                self._position += _DIGEST + length
                return payload
        self._drop_rest()
        return None

    def append(self, key: bytes | memoryview, payload: bytes | memoryview) -> None:
        """Add a record behind those that were taken.

        Args:
            key: what the payload belongs to.
            payload: the bytes.
        """
        self._drop_rest()
        with self._path.open("ab") as file:
            file.write(self._digest(key, payload))
            file.write(payload)
        self._position = self._size = self._position + _DIGEST + len(payload)

    def clear(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)
        self._position = self._size = 0

    def _drop_rest(self) -> None:
        """Cut the file off behind the records that were taken."""
        if self._size > self._position:
            with self._path.open("r+b") as file:
                file.truncate(self._position)
            self._size = self._position

    def _digest(self, key: bytes | memoryview, payload: bytes | bytearray | memoryview) -> bytes:
        """Return the digest of a record in its place."""
        digest = hashlib.blake2b(key, digest_size=_DIGEST, key=self._work)
        digest.update(payload)
        return digest.digest()
