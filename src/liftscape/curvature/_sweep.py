"""Looking for eigenvalues beyond a shift that a Krylov decomposition has not seen, with the chance of missing one."""

from dataclasses import dataclass
from math import hypot
from typing import Literal, final

import torch
from scipy.special import betainc
from torch import Tensor

from liftscape.curvature._lanczos import Krylov
from liftscape.curvature._work import Work, standard_normal

__all__ = ["Sweep", "chance_of_missing", "sweep"]


@final
@dataclass(frozen=True)
class Sweep:
    """What a sweep from a fresh random block came to.

    Attributes:
        outcome: "found" (H has more eigenvalues beyond the shift than T), "none", "full" (no row left), or "stopped"
            (no product left).
        chance: a bound of the probability that one exists and was missed; 0 where the sweep exhausted the space.
    """

    outcome: Literal["found", "none", "full", "stopped"]
    chance: float


def sweep(
    krylov: Krylov,
    work: Work,
    generator: torch.Generator,
    shift: float,
    sign: int,
    width: int = 1,
    chance: float = 1e-3,
) -> Sweep:
    """Tell whether H has more eigenvalues beyond μ than T has, from a random block orthogonal to all of Q.

    The numbers of eigenvalues beyond μ add up: N(H) = N(T) + N(S), S = QH Qᵀ's Schur complement at μ, which on the
    complement of Q is S = P⊥ H P⊥ + Pᵀ G P, G = C (μ − T)⁻¹ Cᵀ. A Ritz value of S beyond μ proves one more. If there is
    none after steps with W, T_S, C_S from b random rows, an eigenvector u of S at μ or beyond has coordinates
    W u = K z, K = (μ − T_S)⁻¹ C_Sᵀ, and so ‖(W u)_b‖² ≤ λ_max(K_b (I + KᵀK)⁻¹ K_bᵀ) in the start block, while for a
    random block that square is Beta(b/2, (D − b)/2) distributed in a complement of dimension D: the chance of so small
    a value bounds the chance that u was missed. Whatever the sweep made joins the decomposition.

    Source: Haynsworth 1968, inertia additivity; the bound is derived, and is the Christoffel function of the block.

    Args:
        krylov: the decomposition, extended in place by the sweep's rows.
        work: takes the products.
        generator: draws the block.
        shift: μ, beyond every Ritz value that is not to be counted, and not an eigenvalue of T.
        sign: 1 looks above μ, −1 below.
        width: b.
        chance: the sweep ends once the chance is below this.

    Returns:
        The outcome with the chance.
    """
    basis, n = krylov.basis, krylov.processed
    side = basis.rows[n:].clone()
    identity = torch.eye(n, dtype=torch.float64)
    G = sign * krylov.C @ torch.linalg.solve(shift * identity - krylov.T, krylov.C.T)
    basis.count = n
    room = basis.capacity - len(side)
    width = max(1, min(width, basis.size - n, (room - n) // 2))
    basis.append(standard_normal(width, work.operator, generator))
    width = basis.count - n
    free = basis.size - n
    chain = Krylov(basis, C=torch.zeros(width, 0, dtype=torch.float64))
    bound, outcome = 1.0, "none"
    while outcome == "none" and bound > chance:
        taken = len(chain.T)
        block = basis.rows[n + taken : n + taken + width]
        b = len(block)
        if not b:
            bound = 0.0
        elif work.left < b:
            outcome = "stopped"
        elif basis.count + b > room:
            outcome = "full"
        else:
            _step(chain, work, n, block, side, G, sign, krylov.T)
            outcome, bound = _judge(chain, sign * shift, width, free)
    _merge(krylov, chain, side, G, sign, n)
    krylov.rounding = hypot(krylov.rounding, chain.rounding)
    krylov.asymmetry = hypot(krylov.asymmetry, chain.asymmetry)
    return Sweep(outcome, bound)


def _step(chain: Krylov, work: Work, n: int, block: Tensor, side: Tensor, G: Tensor, sign: int, T: Tensor) -> None:
    """Extend the chain of S by one block."""
    taken, b = len(chain.T), len(block)
    products = sign * work.multiply(block)
    if len(side):
        inner = (block @ side.T).to("cpu", torch.float64)
        products = products + (inner @ G).to(side) @ side
    scale = max(float(torch.linalg.vector_norm(products, dim=1).max()), float(T.abs().max()) if len(T) else 0.0)
    Y, R = chain.basis.append(products, scale, near=len(chain.C) + b if taken else len(chain.C))
    Y = Y[:, n:]
    symmetric = (Y[:, taken : taken + b] + Y[:, taken : taken + b].T) / 2
    lost = torch.cat([Y[:, :taken] - chain.C[:b], Y[:, taken : taken + b] - symmetric], dim=1)
    dropped = (b - R.shape[1]) ** 0.5 * 20 * torch.finfo(products.dtype).eps * scale
    chain.asymmetry = hypot(chain.asymmetry, lack := float(torch.linalg.vector_norm(lost)))
    chain.rounding = hypot(chain.rounding, lack, dropped)
    chain.T = torch.cat([torch.cat([chain.T, chain.C[:b].T], 1), torch.cat([chain.C[:b], symmetric], 1)])
    kept = torch.cat([chain.C[b:], Y[:, taken + b :].T], dim=1)
    chain.C = torch.cat([kept, torch.cat([torch.zeros(R.shape[1], taken, dtype=torch.float64), R.T], dim=1)])


def _judge(chain: Krylov, shift: float, width: int, free: int) -> tuple[Literal["found", "none"], float]:
    """Return whether a Ritz value lies beyond the shift, and the chance that one was missed."""
    values = torch.linalg.eigvalsh(chain.T)
    scale = max(float(values.abs().max()), abs(shift))
    if float(values[-1]) > shift + chain.rounding + 10 * torch.finfo(chain.basis.rows.dtype).eps * scale:
        return "found", 1.0
    return "none", chance_of_missing(chain, shift, width, free)


def chance_of_missing(krylov: Krylov, shift: float, width: int, free: int) -> float:
    """Bound the probability that an eigenvector at μ or beyond is as small in a random start block as it must be.

    P(‖u_b‖² ≤ λ_max(K_b (I + KᵀK)⁻¹ K_bᵀ)) with K = (μ − T)⁻¹ Cᵀ and ‖u_b‖² ~ Beta(b/2, (D − b)/2); see :func:`sweep`.

    Args:
        krylov: a decomposition whose first b rows are a random block; no restart has mixed them.
        shift: μ, beyond all Ritz values.
        width: b.
        free: D, the dimension of the space in which the block was drawn.

    Returns:
        The bound; 0 where the decomposition has exhausted the space.
    """
    if not len(krylov.C):
        return 0.0
    if width >= free:
        return 1.0
    values, vectors = torch.linalg.eigh(krylov.T)
    gap = shift - values
    tiny = torch.finfo(torch.float64).tiny
    K = (vectors / torch.where(gap.abs() < tiny, tiny, gap)) @ (vectors.T @ krylov.C.T)
    head = K[:width]
    inner = torch.linalg.solve(torch.eye(K.shape[1], dtype=torch.float64) + K.T @ K, head.T)
    share = float(torch.linalg.eigvalsh((head @ inner + (head @ inner).T) / 2)[-1])
    return float(betainc(width / 2, (free - width) / 2, min(1.0, max(0.0, share))))


def _merge(krylov: Krylov, chain: Krylov, side: Tensor, G: Tensor, sign: int, n: int) -> None:
    """Join the chain's rows with the decomposition, and the pending rows that it had before behind them."""
    taken = len(chain.T)
    Y, R = krylov.basis.append(side)
    A, B = Y[:, n : n + taken], torch.cat([Y[:, n + taken :], R], dim=1)
    fresh = torch.zeros(R.shape[1], taken, dtype=torch.float64)
    C = torch.cat([chain.C, fresh])
    own = sign * (chain.T - A.T @ G @ A)
    coupling = A.T @ krylov.C
    krylov.T = torch.cat([torch.cat([krylov.T, coupling.T], 1), torch.cat([coupling, own], 1)])
    krylov.C = torch.cat([B.T @ krylov.C, sign * (C - B.T @ G @ A)], dim=1)
