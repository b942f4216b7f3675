"""Double backward by hand with the gradient's graph kept."""

import torch
from torch import Tensor

from benchmarks.peers import handwritten
from benchmarks.peers.base import split
from benchmarks.work import Work

__all__ = ["Adapter"]


class Adapter(handwritten.Adapter):
    """The graph is built once."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._kept = self._gradient()

    def product(self, vector: Tensor) -> Tensor:
        """Return H v by the second backward pass alone."""
        parameters = self.work.parameters
        parts = torch.autograd.grad(self._kept, parameters, split(vector, parameters), retain_graph=True)
        return torch.cat([part.reshape(-1) for part in parts])
