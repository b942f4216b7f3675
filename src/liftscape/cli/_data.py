"""Data of the user's own: a function, or a file with ``inputs`` and ``targets``, converted to one dtype."""

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from liftscape._files import LARGEST, require_unpacked
from liftscape.cli._user_code import call_user, find_user_object, is_reference
from liftscape.functional import call_model, trainable_parameters
from liftscape.outcomes import DataError, LiftscapeError, LoadError, ModelError
from liftscape.samples import Batches, as_batches, check_real
from liftscape.storage import read_weights

__all__ = ["check_call", "load_data"]

_NAMES = ("inputs", "targets")
# What NumPy raises on headers and members that are damaged, or say what no memory holds.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    NotImplementedError,
    LookupError,
    MemoryError,
    OverflowError,
    RecursionError,
    SyntaxError,
    TypeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Converted:
    """A re-iterable of batches whose floating-point tensors are converted as they are read.

    Attributes:
        source: the batches, never copied as a whole.
        dtype: of every floating-point tensor.
    """

    source: Batches
    dtype: torch.dtype

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches."""
        for inputs, targets in self.source:
            yield tree_map(self._convert, inputs), self._convert(targets)

    def _convert(self, leaf: Any) -> Any:
        """Convert a floating-point tensor, and leave everything else."""
        return leaf.to(self.dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def load_data(reference: str, dtype: torch.dtype) -> Batches:
    """Read data and check them.

    Args:
        reference: ``file.py:function`` or ``package.module:function`` that returns (inputs, targets) or an iterable of
            such batches; or a .npz or .safetensors file with ``inputs`` and ``targets``.
        dtype: of the floating-point tensors.

    Returns:
        The batches, re-iterable.

    Raises:
        LoadError: if the function or file cannot be read.
        DataError: if the data cannot be used.
    """
    if is_reference(reference) and not Path(reference).is_file():
        found = find_user_object(reference, "data")
        given = call_user(found, reference) if callable(found) else found
    else:
        given = _read_file(Path(reference))
    try:
        batches = as_batches(given)
        # Half precision overflows, and float64 does in float32: what is used is checked, not what was given.
        return as_batches(Converted(batches, dtype))
    except LiftscapeError as error:
        raise DataError(f"{reference}: {error}") from error


def check_call(model: nn.Module, batches: Batches, reference: str) -> None:
    """Raise unless the model can be called on the first batch.

    Args:
        model: the module.
        batches: the data.
        reference: how the user named the model.

    Raises:
        ModelError: if a parameter is not real, or the call raises; it shows the shape and dtype of the inputs.
    """
    check_real(model)
    inputs, _ = next(iter(batches))
    given = f"{tuple(inputs.shape)} and dtype {inputs.dtype}" if isinstance(inputs, Tensor) else type(inputs).__name__
    try:
        with torch.no_grad():
            call_model(model, trainable_parameters(model), inputs)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        detail = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"the model of {reference} raised on the first batch, whose inputs have shape {given}: "
            f"{type(error).__name__}: {detail}."
        ) from error


def _read_file(path: Path) -> tuple[Tensor, Tensor]:
    """Read inputs and targets from a file of arrays, without running code."""
    if path.suffix not in {".npz", ".safetensors"}:
        raise LoadError(
            f"data are read from file.py:function, package.module:function, .npz or .safetensors, but '{path}' was "
            "given."
        )
    if not path.is_file():
        raise LoadError(f"there is no data file {path}; give one that holds inputs and targets.")
    if path.stat().st_size > LARGEST:
        raise LoadError(
            f"{path} holds {path.stat().st_size / 2**30:.1f} GiB, more than the {LARGEST / 2**30:.1f} GiB that are "
            "read at once; give a function that returns it in batches."
        )
    arrays = _read_npz(path) if path.suffix == ".npz" else read_weights(path)
    if not set(_NAMES) <= arrays.keys():
        raise LoadError(f"{path} must hold inputs and targets, but it holds {', '.join(arrays) or 'nothing'}.")
    return arrays["inputs"], arrays["targets"]


def _read_npz(path: Path) -> dict[str, Tensor]:
    """Read the arrays of an .npz file as tensors; other arrays than the two are only named."""
    require_unpacked(path, names=[f"{name}{end}" for name in _NAMES for end in ("", ".npy")])
    try:
        # A file that turns out to be no archive would be left open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] if name in _NAMES else np.empty(0) for name in archive.files}
    except _UNREADABLE as error:
        detail = " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__
        raise LoadError(
            f"{path} ({path.stat().st_size} bytes) is no readable .npz of plain arrays: {detail}."
        ) from error
    raw = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if raw:
        raise LoadError(f"{path} must hold arrays, but {', '.join(raw)} is not an array; write it with numpy.savez.")
    try:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    except (TypeError, ValueError) as error:
        kinds = ", ".join(f"{name} of dtype {array.dtype}" for name, array in arrays.items())
        raise LoadError(f"{path} must hold numbers, but it holds {kinds}.") from error
