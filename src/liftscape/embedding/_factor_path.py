"""Paths between two factorisations B P = W of one matrix, along which the product stays W."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import schur
from torch import Tensor

__all__ = ["factor_path", "factors_are_connected"]

Factors = tuple[Tensor, Tensor]
Leg = Callable[[float], Factors]

_RANK = 1e-12


def factors_are_connected(
    W: Float[Tensor, "m_out m_in"], P0: Float[Tensor, "k m_in"], P1: Float[Tensor, "k m_in"]
) -> bool:
    """Tell whether two factorisations B P = W of width k lie in one component.

    They do for k ≥ rank W + 1; for k = rank W there are two components, told by the sign of det (P₁V)(P₀V)⁻¹ with V an
    orthonormal basis of the row space of W.

    Args:
        W: the product.
        P0: right factor of the first.
        P1: right factor of the second.

    Returns:
        Whether a path exists.
    """
    V = _row_space(W)
    if len(P0) > V.shape[1] or V.shape[1] == 0:
        return True
    return bool(torch.linalg.slogdet(P0 @ V)[0] * torch.linalg.slogdet(P1 @ V)[0] > 0)


def factor_path(W: Float[Tensor, "m_out m_in"], start: Factors, end: Factors) -> Leg:
    """Return a path (P, B)(t) with B P = W between two connected factorisations.

    Straight to B = W P⁺, straight to P = B⁺W, then P V = U S by its polar factors: S straight to the identity, U along
    a geodesic of SO(k), and back the same way.

    Source: derived (theory 3, Paths).

    Args:
        W: the product, float64.
        start: (P₀, B₀), (k, m_in) and (m_out, k).
        end: (P₁, B₁).

    Returns:
        A callable of t in [0, 1].

    Example:
        >>> W, P = torch.ones(1, 1, dtype=torch.float64), torch.eye(2, 1, dtype=torch.float64)
        >>> path = factor_path(W, (P, P.T), (-P, -P.T))
        >>> right, left = path(0.5)
        >>> bool((left @ right - W).abs().max() < 1e-14)
        True
    """
    V = _row_space(W)
    there, Q0 = _to_row_space(W, V, *start)
    back, Q1 = _to_row_space(W, V, *end)
    turn = _turning(W, V, Q0, Q1)
    legs = [*there, *turn, *(_reversed(leg) for leg in reversed(back))]

    def path(t: float) -> Factors:
        place = min(max(t, 0.0), 1.0) * len(legs)
        number = min(int(place), len(legs) - 1)
        return legs[number](place - number)

    return path


def _to_row_space(W: Tensor, V: Tensor, P: Tensor, B: Tensor) -> tuple[list[Leg], Tensor]:
    """Return the legs from (P, B) to (Q Vᵀ, W V Q⁺), one factor moving at a time, and Q."""
    least = W @ torch.linalg.pinv(P, rtol=_RANK)
    Q = torch.linalg.pinv(least, rtol=_RANK) @ W @ V
    inner = Q @ V.T
    legs = [
        _straight((P, B), (P, least)),
        _straight((P, least), (inner, least)),
        _straight((inner, least), (inner, W @ V @ torch.linalg.pinv(Q))),
    ]
    return legs, Q


def _turning(W: Tensor, V: Tensor, Q0: Tensor, Q1: Tensor) -> list[Leg]:
    """Return the legs from Q₀ to Q₁ among matrices of full column rank."""
    if V.shape[1] == 0:
        return []
    (U0, S0), (U1, S1) = _polar(Q0), _polar(Q1)
    rotate = _geodesic(_completed(U1) @ _completed(U0).T)
    one = torch.eye(len(S0), dtype=W.dtype)
    factors = lambda Q: (Q @ V.T, W @ V @ torch.linalg.pinv(Q))
    return [
        lambda t: factors(U0 @ ((1 - t) * S0 + t * one)),
        lambda t: factors(rotate(t) @ U0),
        lambda t: factors(U1 @ ((1 - t) * one + t * S1)),
    ]


def _row_space(W: Tensor) -> Tensor:
    """Return V (m_in, rank W), an orthonormal basis of the row space."""
    return torch.linalg.svd(W)[2][: int(torch.linalg.matrix_rank(W))].T


def _polar(Q: Tensor) -> Factors:
    """Return U with orthonormal columns and S positive definite, Q = U S."""
    left, singular, right = torch.linalg.svd(Q, full_matrices=False)
    return left @ right, right.T * singular @ right


def _completed(U: Tensor) -> Tensor:
    """Return a square orthogonal matrix that begins with U, of determinant 1 where a column is free."""
    k, r = U.shape
    rest = torch.linalg.svd(U, full_matrices=True)[0][:, r:]
    full = torch.cat([U, rest], dim=1)
    if k > r and torch.linalg.det(full) < 0:
        full[:, -1] *= -1
    return full


def _geodesic(R: Tensor) -> Callable[[float], Tensor]:
    """Return t ↦ exp(t log R) for a rotation R; −1 is turned through a half circle in pairs."""
    blocks, frame, *_ = schur(R.numpy(), output="real")
    Z = torch.from_numpy(np.ascontiguousarray(frame))
    planes: list[tuple[int, int, float]] = []
    lonely: list[int] = []
    row = 0
    while row < len(blocks):
        if row + 1 < len(blocks) and abs(blocks[row + 1, row]) > _RANK:
            planes.append((row, row + 1, float(np.arctan2(blocks[row + 1, row], blocks[row, row]))))
            row += 2
            continue
        if blocks[row, row] < 0:
            lonely.append(row)
        row += 1
    planes += [(i, j, float(np.pi)) for i, j in zip(lonely[::2], lonely[1::2], strict=True)]

    def rotation(t: float) -> Tensor:
        turned = torch.eye(len(Z), dtype=R.dtype)
        for i, j, angle in planes:
            cos, sin = np.cos(t * angle), np.sin(t * angle)
            turned[i, i], turned[j, j], turned[j, i], turned[i, j] = cos, cos, sin, -sin
        return Z @ turned @ Z.T

    return rotation


def _straight(start: Factors, end: Factors) -> Leg:
    """Return the straight line between two pairs of which one factor agrees."""
    return lambda t: ((1 - t) * start[0] + t * end[0], (1 - t) * start[1] + t * end[1])


def _reversed(leg: Leg) -> Leg:
    """Return a leg walked backwards."""
    return lambda t: leg(1 - t)
