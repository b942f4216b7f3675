"""Files of images and labels: IDX as MNIST and Fashion-MNIST have it, and MNIST as a pickle of arrays."""

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from liftscape.outcomes import LoadError

__all__ = ["read_idx", "read_pickled_mnist"]

_UNSIGNED_BYTES = 8
# What a pickled array is made of; anything else could run code.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, compressed or not.

    Source: the format is described with MNIST, LeCun, Cortes, Burges.

    Args:
        path: the file, gzip if its name ends in ``.gz``.

    Returns:
        The array with the shape that the file gives.

    Raises:
        LoadError: if it is no such file, or cut off.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise LoadError(f"{path} cannot be read as an IDX file ({error}); get it again.") from error
    head = content[:4]
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] != _UNSIGNED_BYTES or len(content) < 4 + 4 * head[3]:
        raise LoadError(f"{path} is no IDX file of unsigned bytes; get it again.")
    shape = tuple(np.frombuffer(content, ">u4", count=head[3], offset=4).tolist())
    start = 4 + 4 * head[3]
    if len(content) != start + int(np.prod(shape)):
        raise LoadError(f"{path} holds {len(content) - start} bytes where its shape {shape} needs more; get it again.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_pickled_mnist(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read MNIST from a pickle of three pairs of arrays, without running any code that it may hold.

    Args:
        path: ``mnist.pkl.gz`` with training, validation and test pairs of grey values in 256ths and labels.

    Returns:
        "train" (the first two pairs, 60,000) and "test" as bytes (n, 28, 28) and labels (n,).

    Raises:
        LoadError: if it holds anything but arrays, or other ones.
    """
    try:
        with gzip.open(path) as file:
            pairs = _ArraysOnly(file, encoding="latin1").load()
        images = [np.rint(np.asarray(pair[0]) * 256).astype(np.uint8).reshape(-1, 28, 28) for pair in pairs]
        labels = [np.asarray(pair[1]).astype(np.uint8) for pair in pairs]
        train = np.concatenate(images[:2]), np.concatenate(labels[:2])
        return {"train": train, "test": (images[2], labels[2])}
    except (OSError, EOFError, pickle.UnpicklingError, ValueError, IndexError, TypeError) as error:
        raise LoadError(f"{path} is not MNIST as a pickle of arrays ({error}); get it again.") from error


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that makes NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
