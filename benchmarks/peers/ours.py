"""liftscape, with its defaults."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from benchmarks.peers.base import Peer
from benchmarks.work import Work
from liftscape.curvature import eigenpairs, slice_2d, spectral_density, trace
from liftscape.curvature._eigenpairs import rows_within
from liftscape.risk import EmpiricalRisk

__all__ = ["Adapter"]


class Adapter(Peer):
    """The public functions of ``ls.curvature``."""

    efforts: ClassVar[dict[str, Sequence[float]]] = {
        "top": (1e-2, 1e-3, 1e-4, 1e-6),
        "bottom": (1e-2, 1e-3, 1e-4, 1e-6),
    }

    # With which an eigenvalue that belongs there may be missed; 1 asks for no verification.
    chance = 1e-3

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.risk = EmpiricalRisk(work.model, "cross_entropy", (work.inputs, work.targets))
        self.operator = self.risk.hessian()
        self.operator.prepare()

    def product(self, vector: Tensor) -> Tensor:
        """Return H @ v."""
        return self.operator @ vector

    def top(self, k: int, effort: float) -> Tensor:
        """Return the k largest, with the sweep that looks for missed ones."""
        return self._extreme(k, "largest", effort).flip(0)

    def bottom(self, k: int, effort: float) -> Tensor:
        """Return the k smallest, likewise."""
        return self._extreme(k, "smallest", effort)

    def _extreme(self, k: int, which: Literal["smallest", "largest"], tolerance: float) -> Tensor:
        """Return the eigenvalues, and note what their vectors took."""
        found = eigenpairs(self.operator, k, which=which, tolerance=tolerance, chance=self.chance)
        row = self.operator.size * self.operator.dtype.itemsize
        self.stored = (min(rows_within(self.operator, k, None), found.products) + k) * row
        return found.values

    def trace(self, probes: int) -> float:
        """Return Hutchinson's estimate."""
        return trace(self.operator, probes=probes).value

    def density(self, steps: int) -> float:
        """Return the mean of the density."""
        found = spectral_density(self.operator, steps=steps, probes=1)
        return float((found.nodes * found.weights).sum() / found.weights.sum())

    def surface(self, first: Tensor, second: Tensor, points: int) -> Tensor:
        """Return the values of a slice."""
        return torch.as_tensor(slice_2d(self.risk, first, second, radius=1.0, points=points).values)
