"""JSON files of a checkpoint, which tell whether they are whole, and whether numbers in them are still the same."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from liftscape._files import write_atomically
from liftscape.outcomes import LoadError

__all__ = ["claim", "read_sealed", "same_to_rounding", "seal", "write_sealed"]

# To be raised whenever a file of a checkpoint changes its layout or its meaning.
_FORMAT = 2
_WORK = "work.json"
# Measured: float32 products with the Hessians of one MLP, CNN or transformer lie up to 37 eps · ‖Hv‖ apart with other
# numbers of threads or other instruction sets. What 128 eps lets pass, the bounds of 10 eps (1 + √n) · |λ| allow for.
_ROUNDING = 128
# Measured: float32 products of networks with batch normalisation in training mode, on data of 60 to 5,000 samples up to
# 30 from 0, lie between one and two threads up to 20 times as far apart as with parameters moved by one eps.
_NUDGES = 64
# What differs by more is other work in any dtype: in half precision 128 eps is of the size of the numbers themselves.
_MOST = 1e-3


def claim(folder: Path, mark: dict[str, Any]) -> dict[str, Any]:
    """Write into a folder which work it is of, unless it says so already.

    Args:
        folder: made if it does not exist.
        mark: what tells the work from others.

    Returns:
        What the folder says: the mark, or that of an earlier run.

    Raises:
        LoadError: if it cannot be a folder, or what it says cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [claim(Path(folder), {"work": work}) for work in ("first", "second")]
        [{'work': 'first'}, {'work': 'first'}]
    """
    path = folder / _WORK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_sealed(path, mark)
    except OSError as error:
        raise LoadError(f"{folder} cannot be a folder for a checkpoint ({error.strerror}); name another.") from error
    return read_sealed(path)


def seal(content: dict[str, Any]) -> bytes:
    """Return a digest of plain values.

    Args:
        content: what JSON can hold.

    Returns:
        16 bytes.
    """
    return hashlib.blake2b(json.dumps(content).encode("utf-8"), digest_size=16).digest()


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write plain values with their digest, in one step.

    Args:
        path: the file.
        content: what JSON can hold.
    """
    write_atomically(
        path, json.dumps({"format": _FORMAT, "digest": seal(content).hex(), "content": content}).encode("utf-8")
    )


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what :func:`write_sealed` wrote.

    Args:
        path: the file.

    Returns:
        The content.

    Raises:
        LoadError: if it cannot be read, is of another format, or is not as it was written.
    """
    advice = "name another folder, or delete this checkpoint to begin anew"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(f"{path} cannot be read ({error.strerror}); {advice}.") from error
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path} is damaged: it is not JSON; {advice}.") from error
    if not isinstance(kept, dict) or kept.get("format") != _FORMAT:
        raise LoadError(f"{path} is not in format {_FORMAT}, in which this version keeps checkpoints; {advice}.")
    content = kept.get("content")
    if not isinstance(content, dict) or kept.get("digest") != seal(content).hex():
        raise LoadError(f"{path} is damaged: its digest is another than that of its content; {advice}.")
    return content


def same_to_rounding(
    given: Sequence[float],
    expected: Sequence[float],
    dtype: torch.dtype,
    nudged: Callable[[], Sequence[float]] | None = None,
) -> bool:
    """Tell whether numbers are those of an earlier run, as far as other threads or another machine round otherwise.

    Args:
        given: the numbers now.
        expected: those of the earlier run.
        dtype: in which they were computed.
        nudged: returns the numbers now with what they are computed from moved by one eps; asked where 128 eps is not
            enough and a thousandth is.

    Returns:
        Whether the same ones are finite, and over these ‖given − expected‖ is at most a thousandth of ‖expected‖, and
        at most 128 eps · ‖expected‖ or 64 · ‖nudged − given‖.

    Example:
        >>> [same_to_rounding([1.0], [other], torch.float64) for other in (1 + 1e-15, -1.0)]
        [True, False]
    """
    now, then = (torch.tensor(numbers, dtype=torch.float64) for numbers in (given, expected))
    finite = now.isfinite()
    if now.shape != then.shape or not torch.equal(finite, then.isfinite()):
        return False
    apart, norm = float((now - then)[finite].norm()), float(then[finite].norm())
    if apart <= min(_ROUNDING * torch.finfo(dtype).eps, _MOST) * norm:
        return True
    if nudged is None or not apart <= _MOST * norm:
        return False
    return apart <= _NUDGES * float((torch.tensor(nudged(), dtype=torch.float64) - now)[finite].norm())
