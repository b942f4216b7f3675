"""Block Lanczos with full reorthogonalisation as one decomposition that can be extended, cut and rotated."""

from dataclasses import dataclass, field
from math import hypot
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.curvature._basis import Basis
from liftscape.curvature._work import Work

__all__ = ["Krylov", "Ritz", "extend", "restart", "ritz", "start", "thin"]


@final
@dataclass
class Krylov:
    """H Qᵀ = Qᵀ T + Pᵀ C + E: n rows Q that H was applied to, p pending rows P that their products reached.

    Q and P are the basis' first n and next p rows. One Lanczos sequence has p = 1 and a tridiagonal T; a block of b
    vectors p = b; after a restart T is diagonal and C full. All of them are extended by the same step.

    Attributes:
        basis: the rows.
        T: Q H Qᵀ, (n, n), float64 on the CPU.
        C: P H Qᵀ, (p, n), float64 on the CPU.
        rounding: a bound of the measured part of ‖E‖: what the products lack of symmetry, and dropped rests.
        asymmetry: what the products lack of symmetry alone.
    """

    basis: Basis
    T: Float[Tensor, "n n"] = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    C: Float[Tensor, "p n"] = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    rounding: float = 0.0
    asymmetry: float = 0.0

    @property
    def processed(self) -> int:
        """The number n of rows that H was applied to."""
        return len(self.T)

    @property
    def pending(self) -> int:
        """The number p of rows that H was not yet applied to."""
        return self.basis.count - self.processed


@final
@dataclass(frozen=True)
class Ritz:
    """Eigenvalues and eigenvectors of T, with the norms of H y − θ y that the decomposition knows.

    Attributes:
        values: θ, ascending, (n,).
        vectors: coordinates of y in Q as columns, (n, n).
        couplings: C s, how each value hangs on each pending row, (p, n).
        scale: the largest |θ|.
    """

    values: Float[Tensor, " n"]
    vectors: Float[Tensor, "n n"]
    couplings: Float[Tensor, "p n"]
    scale: float

    @property
    def residuals(self) -> Float[Tensor, " n"]:
        """‖C s‖."""
        return torch.linalg.vector_norm(self.couplings, dim=0)


def start(basis: Basis, block: Float[Tensor, "b M"]) -> Krylov:
    """Return the decomposition that has seen no product: the block is pending.

    Args:
        basis: an empty basis.
        block: (b, M), independent.

    Returns:
        n = 0, p = b.
    """
    basis.append(block)
    return Krylov(basis, C=torch.zeros(basis.count, 0, dtype=torch.float64))


def extend(krylov: Krylov, work: Work, chosen: list[int]) -> None:
    """Apply H to some pending rows; what is new in the products becomes pending.

    Source: Ruhe 1979, band Lanczos; the couplings are measured by the reorthogonalisation.

    Args:
        krylov: the decomposition, extended in place.
        work: takes the products.
        chosen: indices among the pending rows.
    """
    n, b = krylov.processed, len(chosen)
    order = chosen + [index for index in range(krylov.pending) if index not in chosen]
    _reorder_pending(krylov, order)
    count = krylov.basis.count
    products = work.multiply(krylov.basis.rows[n : n + b])
    scale = max(float(krylov.T.abs().max()) if n else 0.0, float(torch.linalg.vector_norm(products, dim=1).max()))
    Y, R = krylov.basis.append(products, scale, near=min(count, 2 * count - 2 * n))
    symmetric = (Y[:, n : n + b] + Y[:, n : n + b].T) / 2
    lost = torch.cat([Y[:, :n] - krylov.C[:b], Y[:, n : n + b] - symmetric], dim=1)
    dropped = (b - R.shape[1]) ** 0.5 * 20 * torch.finfo(products.dtype).eps * scale
    krylov.asymmetry = hypot(krylov.asymmetry, lack := float(torch.linalg.vector_norm(lost)))
    krylov.rounding = hypot(krylov.rounding, lack, dropped)
    krylov.T = torch.cat([torch.cat([krylov.T, krylov.C[:b].T], 1), torch.cat([krylov.C[:b], symmetric], 1)])
    kept = torch.cat([krylov.C[b:], Y[:, n + b :].T], dim=1)
    fresh = torch.cat([torch.zeros(R.shape[1], n, dtype=torch.float64), R.T], dim=1)
    krylov.C = torch.cat([kept, fresh])


def ritz(krylov: Krylov) -> Ritz:
    """Solve the small eigenproblem of T.

    Args:
        krylov: the decomposition.

    Returns:
        Values, coordinates and couplings.
    """
    values, vectors = torch.linalg.eigh(krylov.T)
    return Ritz(values, vectors, krylov.C @ vectors, float(values.abs().max()) if len(values) else 0.0)


def restart(krylov: Krylov, found: Ritz, keep: list[int]) -> None:
    """Keep some Ritz vectors instead of Q; the pending rows and the relation stay.

    Source: Wu and Simon 2000, thick restart; Stewart 2002, Krylov-Schur.

    Args:
        krylov: the decomposition, cut in place.
        found: its Ritz pairs.
        keep: indices of those to keep.
    """
    krylov.basis.rotate(found.vectors[:, keep])
    krylov.T = torch.diag(found.values[keep])
    krylov.C = found.couplings[:, keep].clone()


def thin(krylov: Krylov, count: int) -> None:
    """Keep the combinations of pending rows on which Q hangs most; what hung on the others is counted as rounding.

    Args:
        krylov: the decomposition, changed in place.
        count: how many to keep.
    """
    left, strengths, right = torch.linalg.svd(krylov.C, full_matrices=False)
    n, basis = krylov.processed, krylov.basis
    pending = left[:, :count].T.to(basis.rows) @ basis.rows[n:]
    basis.count = n
    basis.append(pending)
    krylov.C = strengths[:count, None] * right[:count]
    dropped = float(torch.linalg.vector_norm(strengths[count:]))
    krylov.rounding = (krylov.rounding**2 + dropped**2) ** 0.5


def _reorder_pending(krylov: Krylov, order: list[int]) -> None:
    """Put the pending rows into another order."""
    place = list(range(len(order)))
    for target, wanted in enumerate(order):
        source = place.index(wanted)
        krylov.basis.swap(krylov.processed + target, krylov.processed + source)
        place[target], place[source] = place[source], place[target]
    krylov.C = krylov.C[order]
