"""A folder that holds a long work's products, so that a kill costs at most the product under way."""

import hashlib
import json
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape._files import write_atomically
from liftscape.outcomes import LoadError
from liftscape.risk import SymmetricOperator

__all__ = ["Journal"]

_DIGEST = 16
_BUCKETS = 64
# Measured: float32 products with the Hessians of one MLP, CNN or transformer lie up to 37 eps · ‖Hv‖ apart with other
# numbers of threads or other instruction sets. What 128 eps lets pass, the bounds of 10 eps (1 + √n) · |λ| allow for.
_ROUNDING = 128
_WORK, _STATE, _PRODUCTS = "work.json", "state.json", "products.bin"


@final
class Journal:
    """Products in the order in which a work took them, each with digests of what went in and what came out.

    A resumed work runs again from its beginning and is handed the recorded products instead of taking them, so it takes
    the same course to the same bytes. A record whose input is not the one asked for, or that was cut off by a kill,
    ends the recording there. Finished parts of the work can be kept as plain values instead of products.

    Args:
        folder: made if it does not exist.
        operator: H; its product with one fixed vector, taken at each resumption, must be the one it was to rounding.
        settings: plain values that make this work the work it is.

    Raises:
        LoadError: if the folder holds other work, or is none.

    Example:
        >>> import tempfile
        >>> from liftscape.risk import as_operator
        >>> H, v = as_operator(torch.eye(2)), torch.ones(1, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Journal(Path(folder), H, {"work": "example"}).record(v, v)
        ...     Journal(Path(folder), H, {"work": "example"}).recall(v).tolist()
        [[1.0, 1.0]]
    """

    def __init__(self, folder: Path, operator: SymmetricOperator, settings: dict[str, Any]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LoadError(
                f"{folder} cannot be a folder for a checkpoint ({error.strerror}); name another."
            ) from error
        self._folder, self._size, self._dtype, self._device = folder, operator.size, operator.dtype, operator.device
        self._check(settings | {"size": operator.size, "dtype": str(operator.dtype)}, _sketch(operator))
        self._path = folder / _PRODUCTS
        self._position = 0
        self._recorded = self._path.stat().st_size if self._path.exists() else 0

    def recall(self, rows: Float[Tensor, "b M"]) -> Float[Tensor, "b M"] | None:
        """Return the recorded product with these rows if it is the next record, else end the recording here.

        Args:
            rows: (b, M).

        Returns:
            H times each row, or None.
        """
        length = 2 * _DIGEST + rows.numel() * self._dtype.itemsize
        if self._position + length <= self._recorded:
            with self._path.open("rb") as file:
                file.seek(self._position)
                record = bytearray(file.read(length))
            payload = memoryview(record)[2 * _DIGEST :]
            if record[:_DIGEST] == _digest(_bytes(rows)) and record[_DIGEST : 2 * _DIGEST] == _digest(payload):
                self._position += length
                return torch.frombuffer(payload, dtype=self._dtype).view(rows.shape).to(self._device)
        if self._recorded > self._position:
            with self._path.open("r+b") as file:
                file.truncate(self._position)
            self._recorded = self._position
        return None

    def record(self, rows: Float[Tensor, "b M"], products: Float[Tensor, "b M"]) -> None:
        """Append a product to the file.

        Args:
            rows: (b, M), what went in.
            products: (b, M), what came out.
        """
        payload = _bytes(products)
        with self._path.open("ab") as file:
            file.write(_digest(_bytes(rows)) + _digest(payload))
            file.write(payload)
        self._position = self._recorded = self._position + 2 * _DIGEST + len(payload)

    def finished(self) -> list[Any]:
        """Return the finished parts of the work.

        Returns:
            What :meth:`finish` was given last, or nothing.
        """
        path = self._folder / _STATE
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []

    def finish(self, parts: list[Any]) -> None:
        """Keep finished parts as plain values and forget the products that led to them.

        Args:
            parts: all finished parts.
        """
        write_atomically(self._folder / _STATE, json.dumps(parts).encode("utf-8"))
        self._path.unlink(missing_ok=True)
        self._position = self._recorded = 0

    def _check(self, settings: dict[str, Any], sketch: list[float]) -> None:
        """Write the fingerprint into a new folder, or compare it with the one that is there."""
        path = self._folder / _WORK
        settings = json.loads(json.dumps(settings))
        if not path.exists():
            write_atomically(path, json.dumps({"settings": settings, "sketch": sketch}, indent=2).encode("utf-8"))
            return
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            other = sorted(
                name
                for name in settings.keys() | kept["settings"].keys()
                if settings.get(name) != kept["settings"].get(name)
            )
            expected = torch.tensor(kept["sketch"], dtype=torch.float64)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoadError(f"{path} is no description of a checkpoint; name another folder.") from error
        if not other and not _same(torch.tensor(sketch, dtype=torch.float64), expected, torch.finfo(self._dtype).eps):
            other = ["the operator itself"]
        if other:
            raise LoadError(
                f"{self._folder} is a checkpoint of other work: {', '.join(other)} differ; name another folder."
            )


def _sketch(operator: SymmetricOperator) -> list[float]:
    """Return 64 random projections of H @ v for one random v, the same two vectors each time.

    ‖Δs‖² has the mean ‖ΔHv‖² / 3 over the projections, so that a change of H is seen at the size it has.
    """
    # Uniform numbers are made of random bits alone, so they are the same to the last bit on every machine.
    draws = torch.Generator().manual_seed(1)
    v, weights = (2 * torch.rand(operator.size, generator=draws, dtype=operator.dtype) - 1 for _ in range(2))
    terms = weights.double() * (operator @ v.to(operator.device)).detach().cpu().double()
    return [float(terms[first::_BUCKETS].sum()) for first in range(_BUCKETS)]


def _same(given: Float[Tensor, " n"], expected: Float[Tensor, " n"], eps: float) -> bool:
    """Tell whether two sketches are of one operator, as far as rounding lets one say."""
    finite = given.isfinite()
    if given.shape != expected.shape or not torch.equal(finite, expected.isfinite()):
        return False
    given, expected = given[finite], expected[finite]
    return float((given - expected).norm()) <= _ROUNDING * eps * float(expected.norm())


def _bytes(rows: Tensor) -> memoryview:
    """Return the entries' bytes."""
    return rows.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def _digest(content: memoryview) -> bytes:
    """Return a short digest."""
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
