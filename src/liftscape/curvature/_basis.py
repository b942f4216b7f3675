"""Orthonormal vectors as rows, and the orthogonalisation of a block against them in matrix products."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._cholesky_qr import cholesky_qr
from liftscape.outcomes import LiftscapeError

__all__ = ["Basis"]

# Columns of one matrix product on a CPU: partial sums over 65,536 entries are added in float64, which keeps float32
# coefficients right for millions of entries and was measured no slower than one product over all columns.
_CHUNK = 65_536
# A pass that leaves less than this share of a vector's norm leaves its cancellation error as well (Daniel et al. 1976).
_KEPT = 0.7
_PASSES = 4
# Blocks of so many vectors are made orthonormal in matrix-matrix products.
_WIDE = 4


@final
class Basis:
    """Up to `capacity` orthonormal vectors, the rows of one preallocated matrix on the vectors' device.

    A vector w becomes w − Qᵀ(Qw), which reads the m rows twice where m pairs of a dot product and an update move five
    vectors each; a block does so in matrix-matrix products, which read the rows once for all its vectors.

    Source: Daniel, Gragg, Kaufman, Stewart 1976, reorthogonalisation where a pass cancels.

    Args:
        capacity: the largest number of rows.
        size: M, entries of a row.
        dtype: dtype of the rows.
        device: device of the rows.

    Raises:
        LiftscapeError: if the rows cannot be allocated.

    Example:
        >>> basis = Basis(2, 3, torch.float64, torch.device("cpu"))
        >>> _ = basis.append(torch.tensor([[3.0, 0.0, 4.0]], dtype=torch.float64))
        >>> basis.rows.tolist()
        [[0.6..., 0.0, 0.8...]]
    """

    def __init__(self, capacity: int, size: int, dtype: torch.dtype, device: torch.device) -> None:
        try:
            self._storage = torch.empty(capacity, size, dtype=dtype, device=device)
        except RuntimeError as error:
            gigabytes = capacity * size * dtype.itemsize / 2**30
            raise LiftscapeError(
                f"{capacity} vectors of {size} entries take {gigabytes:.1f} GiB on {device}, which could not be "
                "allocated; give a smaller memory_budget."
            ) from error
        self.count = 0

    @property
    def capacity(self) -> int:
        """The largest number of rows."""
        return len(self._storage)

    @property
    def size(self) -> int:
        """M, entries of a row."""
        return self._storage.shape[1]

    @property
    def rows(self) -> Float[Tensor, "m M"]:
        """The rows in use, a view."""
        return self._storage[: self.count]

    def append(self, block: Float[Tensor, "b M"], scale: float = 0.0, near: int = 0) -> tuple[Tensor, Tensor]:
        """Orthonormalise a block against the rows and itself, and append what is left.

        Args:
            block: (b, M).
            scale: a vector of which less than 20·eps·scale is left counts as dependent and is dropped.
            near: so many of the last rows are taken out first, where the block is known to lie mostly along them.

        Returns:
            Y (b, m) and R (b, r), float64 on the CPU, with block = Y rows + R new rows.
        """
        before, amount = self.count, len(block)
        rest = self._storage[before : before + amount]
        coefficients = torch.zeros(amount, before, dtype=torch.float64)
        norms = self._store(block, rest)
        if near:
            norms = self._subtract(rest, before - near, before, coefficients[:, before - near :])
        norms = self._project(rest, before, coefficients, norms)
        floor = 20 * torch.finfo(rest.dtype).eps * scale
        if amount >= _WIDE and (factor := cholesky_qr(rest, _KEPT, floor, self._chunks(amount))) is not None:
            self.count += amount
            return coefficients, factor
        own = torch.zeros(amount, amount, dtype=torch.float64)
        for index in range(amount):
            row = rest[index : index + 1]
            left = norms[index]
            if self.count > before:
                mixed = torch.zeros(1, self.count, dtype=torch.float64)
                after = self._subtract(row, before, self.count, mixed[:, before:])
                if float(after) < _KEPT * float(left):
                    after = self._project(row, self.count, mixed, after)
                coefficients[index] += mixed[0, :before]
                own[index, : self.count - before] = mixed[0, before:]
                left = after.reshape(())
            if float(left) <= floor:
                continue
            own[index, self.count - before] = float(left)
            torch.div(row[0], float(left), out=self._storage[self.count])
            self.count += 1
        return coefficients, own[:, : self.count - before]

    def rotate(self, mixing: Float[Tensor, "n k"]) -> None:
        """Replace the first n rows by the k combinations mixingᵀ rows; later rows follow them.

        Args:
            mixing: (n, k) with orthonormal columns, k ≤ n.
        """
        n, k = mixing.shape
        weights = mixing.T.to(self._storage)
        for columns in self._chunks(len(mixing)):
            self._storage[:k, columns] = weights @ self._storage[:n, columns]
        for offset in range(self.count - n):
            self._storage[k + offset] = self._storage[n + offset]
        self.count += k - n

    def combine(self, mixing: Float[Tensor, "n k"]) -> Float[Tensor, "k M"]:
        """Return the k combinations mixingᵀ rows of the first n rows.

        Args:
            mixing: (n, k).

        Returns:
            (k, M), new.
        """
        result = self._storage.new_empty(mixing.shape[1], self._storage.shape[1])
        weights = mixing.T.to(self._storage)
        for columns in self._chunks(len(mixing)):
            result[:, columns] = weights @ self._storage[: len(mixing), columns]
        return result

    def swap(self, first: int, second: int) -> None:
        """Exchange two rows.

        Args:
            first: index of one.
            second: index of the other.
        """
        if first != second:
            self._storage[[first, second]] = self._storage[[second, first]]

    def departure(self) -> float:
        """Return ‖QQᵀ − I‖ in the Frobenius norm, measured in float64.

        Returns:
            The norm.
        """
        gram = torch.zeros(self.count, self.count, dtype=torch.float64, device=self._storage.device)
        for columns in self._chunks(self.count):
            part = self.rows[:, columns].to(torch.float64)
            gram += part @ part.T
        return float(torch.linalg.matrix_norm(gram - torch.eye(self.count).to(gram))) if self.count else 0.0

    def _project(self, block: Tensor, stop: int, coefficients: Tensor, norms: Tensor) -> Tensor:
        """Take the first rows out of a block in place, again where a pass cancels; return its norms afterwards."""
        for _ in range(_PASSES if stop else 0):
            before, norms = norms, self._subtract(block, 0, stop, coefficients)
            if bool((norms >= _KEPT * before).all()):
                break
        return norms

    def _subtract(self, block: Tensor, start: int, stop: int, coefficients: Tensor) -> Tensor:
        """Take rows start to stop out of a block in place, add the coefficients; return its norms afterwards."""
        # Over millions of float32 entries one sum errs by 1e-3, sums of chunks by rounding.
        chunks = self._chunks(0)
        parts = [_outer(self._storage[start:stop, columns], block[:, columns]).double() for columns in chunks]
        found = _sum(parts)
        coefficients += found.cpu()
        weights = found.to(block.dtype)
        squares: list[Tensor] = []
        for columns in chunks:
            part = self._storage[start:stop, columns]
            if len(block) == 1:
                block[0, columns].addmv_(part.T, weights[0], alpha=-1)
            else:
                block[:, columns].addmm_(weights, part, alpha=-1)
            squares.append(_squares(block[:, columns]))
        return _norms(squares)

    def _store(self, block: Tensor, rest: Tensor) -> Tensor:
        """Copy a block into free rows; return its norms."""
        squares: list[Tensor] = []
        for columns in self._chunks(0):
            rest[:, columns] = block[:, columns]
            squares.append(_squares(rest[:, columns]))
        return _norms(squares)

    def _chunks(self, rows: int) -> list[slice]:
        """Return slices of the columns: all of them on a GPU unless a copy of `rows` rows would be needed."""
        size = self._storage.shape[1]
        step = _CHUNK if self._storage.device.type == "cpu" or rows else size
        step = step if self._storage.device.type == "cpu" else max(step, 1 << 20)
        return [slice(start, start + step) for start in range(0, size, step)]


def _outer(rows: Tensor, block: Tensor) -> Tensor:
    """Return block @ rowsᵀ, by a matrix-vector product where the block is one vector."""
    return (rows @ block[0]).unsqueeze(0) if len(block) == 1 else block @ rows.T


def _squares(block: Tensor) -> Tensor:
    """Return the rows' squared norms in float64."""
    return torch.linalg.vector_norm(block, dim=1).to(torch.float64).square()


def _norms(squares: list[Tensor]) -> Tensor:
    """Return the rows' norms from the squares of their chunks, which were taken while these were in the cache."""
    return _sum(squares).sqrt().cpu()


def _sum(parts: list[Tensor]) -> Tensor:
    """Return the sum of what chunks give; most networks have one."""
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)
