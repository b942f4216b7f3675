"""PyHessian: one batch, so that it keeps its graph; power iteration with deflation."""

import warnings
from collections.abc import Sequence
from typing import ClassVar

import torch
from pyhessian import hessian
from pyhessian.utils import hessian_vector_product
from torch import Tensor, nn

from benchmarks.peers.base import Peer, split
from benchmarks.work import Work

__all__ = ["Adapter"]


class Adapter(Peer):
    """`pyhessian.hessian` on the CPU."""

    # Its tolerance is the relative change of a value from one step to the next.
    efforts: ClassVar[dict[str, Sequence[float]]] = {"top": (1e-3, 1e-5, 1e-6)}

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # backward with create_graph warns of a cycle
            self.tool = hessian(work.model, nn.CrossEntropyLoss(), data=(work.inputs, work.targets), cuda=False)

    def product(self, vector: Tensor) -> Tensor:
        """Return H v by its helper."""
        parts = hessian_vector_product(self.tool.gradsH, self.tool.params, split(vector, self.tool.params))
        return torch.cat([part.reshape(-1) for part in parts])

    def top(self, k: int, effort: float) -> Tensor:
        """Return the k of largest magnitude, which are the largest here."""
        values, _ = self.tool.eigenvalues(maxIter=100 if effort >= 1e-3 else 1000, tol=effort, top_n=k)
        return torch.tensor(values, dtype=torch.float64).sort(descending=True).values

    def trace(self, probes: int) -> float:
        """Return Hutchinson's estimate; with tolerance 0 it does not stop early while the mean is positive."""
        samples = self.tool.trace(maxIter=probes, tol=0.0)
        if len(samples) < probes:
            raise RuntimeError(f"stopped after {len(samples)} of {probes} probes, since the running mean is negative")
        return sum(samples) / len(samples)

    def density(self, steps: int) -> float:
        """Return the mean under its quadrature."""
        nodes, weights = self.tool.density(iter=steps, n_v=1)
        return float(torch.tensor(nodes[0]) @ torch.tensor(weights[0]))
