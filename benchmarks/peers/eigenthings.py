"""hessian-eigenthings: its operator by double backward, Lanczos, trace and density."""

from collections.abc import Sequence
from typing import ClassVar

from hessian_eigenthings import HessianOperator, lanczos, spectral_density, supervised_loss, trace
from torch import Tensor, nn

from benchmarks.peers.base import Peer
from benchmarks.work import Work

__all__ = ["Adapter"]


class Adapter(Peer):
    """`HessianOperator` with the default method."""

    # Lanczos steps; the default, 2k, is far from converged.
    efforts: ClassVar[dict[str, Sequence[float]]] = {
        "top": (20, 30, 40, 60, 80, 120),
        "bottom": (20, 40, 80, 120, 160, 240, 480),
    }

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        batches = [(work.inputs, work.targets)]
        self.operator = HessianOperator(work.model, batches, supervised_loss(nn.CrossEntropyLoss()))

    def product(self, vector: Tensor) -> Tensor:
        """Return H @ v."""
        return self.operator @ vector

    def top(self, k: int, effort: float) -> Tensor:
        """Return the k largest after so many steps."""
        return self._lanczos(k, "LA", effort).sort(descending=True).values

    def bottom(self, k: int, effort: float) -> Tensor:
        """Return the k smallest after so many steps."""
        return self._lanczos(k, "SA", effort).sort().values

    def _lanczos(self, k: int, which: str, steps: float) -> Tensor:
        """Return its values, reorthogonalised also beyond 50 steps, where it does not by default."""
        return lanczos(self.operator, k=k, max_iter=int(steps), which=which, reorthogonalize=True, seed=0).eigenvalues

    def trace(self, probes: int) -> float:
        """Return its Hutchinson estimate."""
        return trace(self.operator, num_matvecs=probes, method="hutchinson", seed=0).estimate

    def density(self, steps: int) -> float:
        """Return the mean under its quadrature."""
        found = spectral_density(self.operator, num_runs=1, lanczos_steps=steps, seed=0)
        return float((found.raw_eigenvalues * found.raw_weights).double().sum())
