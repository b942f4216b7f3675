"""A folder that holds a long work's products, so that a kill costs at most the product under way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._record_file import RecordFile
from liftscape.curvature._sealed import claim, read_sealed, same_to_rounding, seal, write_sealed
from liftscape.operators import SymmetricOperator
from liftscape.outcomes import LoadError

__all__ = ["Journal"]

_STATE, _PRODUCTS = "state.json", "products.bin"
_BUCKETS = 64


@final
class Journal:
    """Products in the order in which a work took them, each with a digest of what went in and what came out.

    A resumed work runs again from its beginning and is handed the recorded products instead of taking them, so it takes
    the same course to the same bytes. A record whose input is not the one asked for, that was cut off by a kill or is
    damaged ends the recording there. Finished parts of the work can be kept as plain values instead of products.

    Args:
        folder: made if it does not exist.
        operator: H; its product with one fixed vector, taken at each resumption, must be the one it was to rounding,
            whose size another one, with H nudged, tells where it is not small.
        settings: plain values that make this work the work it is.

    Raises:
        LoadError: if the folder holds other work, is damaged, or is none.

    Example:
        >>> import tempfile
        >>> from liftscape.operators import as_operator
        >>> H, v = as_operator(torch.eye(2)), torch.ones(1, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Journal(Path(folder), H, {"work": "example"}).record(v, v)
        ...     Journal(Path(folder), H, {"work": "example"}).recall(v).tolist()
        [[1.0, 1.0]]
    """

    def __init__(self, folder: Path, operator: SymmetricOperator, settings: dict[str, Any]) -> None:
        self._folder, self._dtype, self._device = folder, operator.dtype, operator.device
        settings = json.loads(json.dumps(settings | {"size": operator.size, "dtype": str(operator.dtype)}))
        sketch = _sketch(operator, operator.multiply)
        kept = claim(folder, {"settings": settings, "sketch": sketch})
        before = kept.get("settings", {})
        other = sorted(name for name in settings.keys() | before.keys() if settings.get(name) != before.get(name))
        if not other and not same_to_rounding(
            sketch, kept["sketch"], self._dtype, lambda: _sketch(operator, operator.multiply_nudged)
        ):
            other = ["the operator itself"]
        if other:
            raise LoadError(
                f"{folder} is a checkpoint of other work, which differs in {', '.join(other)}; name another folder."
            )
        self._work = seal(kept)
        self._products = RecordFile(folder / _PRODUCTS, self._work)

    def recall(self, rows: Float[Tensor, "b M"]) -> Float[Tensor, "b M"] | None:
        """Return the recorded product with these rows if it is the next record, else end the recording here.

        Args:
            rows: (b, M).

        Returns:
            H times each row, or None.
        """
        payload = self._products.take(_bytes(rows), rows.numel() * self._dtype.itemsize)
        if payload is None:
            return None
        return torch.frombuffer(payload, dtype=self._dtype).view(rows.shape).to(self._device)

    def record(self, rows: Float[Tensor, "b M"], products: Float[Tensor, "b M"]) -> None:
        """Append a product to the file.

        Args:
            rows: (b, M), what went in.
            products: (b, M), what came out.
        """
        self._products.append(_bytes(rows), _bytes(products))

    def finished(self) -> list[Any]:
        """Return the finished parts of the work.

        Returns:
            What :meth:`finish` was given last, or nothing.

        Raises:
            LoadError: if they are damaged, or of other work.
        """
        path = self._folder / _STATE
        if not path.exists():
            return []
        kept = read_sealed(path)
        if kept.get("work") != self._work.hex():
            raise LoadError(
                f"{path} is of other work than the folder that it is in; name another folder, or delete this "
                "checkpoint to begin anew."
            )
        return kept["parts"]

    def finish(self, parts: list[Any]) -> None:
        """Keep finished parts as plain values and forget the products that led to them.

        Args:
            parts: all finished parts.
        """
        write_sealed(self._folder / _STATE, {"work": self._work.hex(), "parts": parts})
        self._products.clear()


def _sketch(operator: SymmetricOperator, multiply: Callable[[Tensor], Tensor]) -> list[float]:
    """Return 64 random projections of H @ v for one random v, the same two vectors each time.

    ‖Δs‖² has the mean ‖ΔHv‖² / 3 over the projections, so that a change of H is seen at the size it has.
    """
    # Uniform numbers are made of random bits alone, so they are the same to the last bit on every machine.
    draws = torch.Generator().manual_seed(1)
    v, weights = (2 * torch.rand(operator.size, generator=draws, dtype=operator.dtype) - 1 for _ in range(2))
    terms = weights.double() * multiply(v.to(operator.device)[:, None])[:, 0].detach().cpu().double()
    return [float(terms[first::_BUCKETS].sum()) for first in range(_BUCKETS)]


def _bytes(rows: Tensor) -> memoryview:
    """Return the entries' bytes."""
    return rows.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
