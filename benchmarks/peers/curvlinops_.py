"""curvlinops: its Hessian operator, its trace and density, and SciPy's ARPACK for eigenvalues as its guide does."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from curvlinops import HessianLinearOperator, hutchinson_trace, lanczos_approximate_spectrum
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn

from benchmarks.peers.base import Peer
from benchmarks.work import Work

__all__ = ["Adapter"]


class Adapter(Peer):
    """`HessianLinearOperator` without its check of determinism, whose products would count against it."""

    efforts: ClassVar[dict[str, Sequence[float]]] = {
        "top": (1e-2, 1e-3, 1e-4, 1e-6),
        "bottom": (1e-2, 1e-3, 1e-4, 1e-6),
    }

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.operator = HessianLinearOperator(
            work.model,
            nn.CrossEntropyLoss(),
            list(work.model.parameters()),
            [(work.inputs, work.targets)],
            check_deterministic=False,
        )

    def product(self, vector: Tensor) -> Tensor:
        """Return H @ v."""
        return self.operator @ vector

    def top(self, k: int, effort: float) -> Tensor:
        """Return ARPACK's largest."""
        return self._arpack(k, "LA", effort).flip(0)

    def bottom(self, k: int, effort: float) -> Tensor:
        """Return ARPACK's smallest."""
        return self._arpack(k, "SA", effort)

    def _arpack(self, k: int, which: str, tolerance: float) -> Tensor:
        """Return ARPACK's values, ascending."""
        start = np.random.default_rng(0).standard_normal(self.work.size).astype(np.float32)
        values = eigsh(self.operator.to_scipy(), k, which=which, tol=tolerance, v0=start, return_eigenvectors=False)
        return torch.from_numpy(np.sort(values)).double()

    def trace(self, probes: int) -> float:
        """Return its Hutchinson estimate, whose probes are one block; one at a time where the block does not fit."""
        if self.work.name == "resnet18":
            return sum(float(hutchinson_trace(self.operator, 1)) for _ in range(probes)) / probes
        return float(hutchinson_trace(self.operator, probes))

    def density(self, steps: int) -> float:
        """Return the mean of the density on its grid, which its Gaussian bumps keep."""
        grid, density = lanczos_approximate_spectrum(self.operator, steps)
        return float((grid * density).double().sum() / density.double().sum())
