"""What one would write by hand: double backward, SciPy's ARPACK, and plain loops."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from benchmarks.peers.base import Peer, split

__all__ = ["Adapter", "lanczos", "lanczos_coefficients"]


def lanczos_coefficients(product, start: Tensor, steps: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return α and β of Lanczos with full reorthogonalisation one vector at a time, and the vectors."""
    basis = [start / start.norm()]
    alphas, betas = [], []
    for _ in range(steps):
        w = product(basis[-1])
        alphas.append(float(w @ basis[-1]))
        for _ in range(2):
            for q in basis:
                w -= (q @ w) * q
        betas.append(float(w.norm()))
        basis.append(w / betas[-1])
    return torch.tensor(alphas, dtype=torch.float64), torch.tensor(betas, dtype=torch.float64), basis


def lanczos(product, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of Gauss quadrature."""
    alphas, betas, _ = lanczos_coefficients(product, start, steps)
    off = betas[:-1]
    nodes, vectors = torch.linalg.eigh(torch.diag(alphas) + torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, vectors[0] ** 2


class Adapter(Peer):
    """Double backward built anew for each product."""

    efforts: ClassVar[dict[str, Sequence[float]]] = {
        "top": (1e-2, 1e-3, 1e-4, 1e-6),
        "bottom": (1e-2, 1e-3, 1e-4, 1e-6),
    }

    def _gradient(self) -> tuple[Tensor, ...]:
        """Return the gradient with its graph."""
        return torch.autograd.grad(self.work.loss(), self.work.parameters, create_graph=True)

    def product(self, vector: Tensor) -> Tensor:
        """Return H v."""
        parameters = self.work.parameters
        parts = torch.autograd.grad(self._gradient(), parameters, split(vector, parameters))
        return torch.cat([part.reshape(-1) for part in parts])

    def top(self, k: int, effort: float) -> Tensor:
        """Return ARPACK's largest."""
        return self._arpack(k, "LA", effort).flip(0)

    def bottom(self, k: int, effort: float) -> Tensor:
        """Return ARPACK's smallest."""
        return self._arpack(k, "SA", effort)

    def _arpack(self, k: int, which: str, tolerance: float) -> Tensor:
        """Return ARPACK's values, ascending, from products in the work's dtype."""
        size, dtype = self.work.size, self.work.parameters[0].dtype
        start = np.random.default_rng(0).standard_normal(size)
        operator = LinearOperator(
            (size, size),
            dtype=np.float64,
            matvec=lambda v: self.product(torch.from_numpy(v).to(dtype)).double().numpy(),
        )
        return torch.from_numpy(np.sort(eigsh(operator, k, which=which, tol=tolerance, v0=start)[0]))

    def trace(self, probes: int) -> float:
        """Return Hutchinson's estimate."""
        total = 0.0
        for _ in range(probes):
            signs = torch.randint(0, 2, (self.work.size,)).to(self.work.parameters[0].dtype) * 2 - 1
            total += float(signs @ self.product(signs))
        return total / probes

    def density(self, steps: int) -> float:
        """Return the mean under Gauss quadrature."""
        signs = torch.randint(0, 2, (self.work.size,)).to(self.work.parameters[0].dtype) * 2 - 1
        nodes, weights = lanczos(self.product, signs, steps)
        return float(nodes @ weights)

    @torch.no_grad()
    def surface(self, first: Tensor, second: Tensor, points: int) -> Tensor:
        """Return the loss with the parameters moved in place and put back."""
        parameters = self.work.parameters
        held = [parameter.clone() for parameter in parameters]
        u, v = split(first, parameters), split(second, parameters)
        grid = torch.linspace(-1, 1, points, dtype=torch.float64).tolist()
        values = torch.empty(points, points, dtype=torch.float64)
        for i, a in enumerate(grid):
            for j, b in enumerate(grid):
                for parameter, center, x, y in zip(parameters, held, u, v, strict=True):
                    parameter.copy_(center + a * x + b * y)
                values[i, j] = float(self.work.loss())
        for parameter, center in zip(parameters, held, strict=True):
            parameter.copy_(center)
        return values
