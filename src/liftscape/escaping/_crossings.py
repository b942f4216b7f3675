"""Where a neuron can leave its affine piece, and by how much its activation then deviates from the piece's line."""

from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass
from math import inf, isfinite
from typing import final

import torch
from torch import Tensor, nn

from liftscape.activations import AffinePiece, affine_pieces, affine_tails
from liftscape.outcomes import ActivationError

__all__ = ["Crossing", "available_pieces", "choose_crossing"]

_CONTINUOUS = 1e-12


@final
@dataclass(frozen=True)
class Crossing:
    """A neuron's way out of its affine piece over one end.

    Attributes:
        sigma: the activation, in float64.
        piece: σ(t) = λt + μ there.
        end: e, the end that is crossed.
        side: +1 where the piece ends above, −1 where it ends below.
        beyond: the affine piece on the other side; None where σ is curved there.
    """

    sigma: nn.Module
    piece: AffinePiece
    end: float
    side: int
    beyond: AffinePiece | None

    @property
    def is_kink(self) -> bool:
        """Whether σ is affine on both sides of the end."""
        return self.beyond is not None

    @property
    def room(self) -> float:
        """The shorter of the lengths of both pieces; the reach of the law φ = κ·max(±(t − e), 0)."""
        lengths = [piece.upper - piece.lower for piece in (self.piece, self.beyond) if piece is not None]
        return min(lengths) if self.is_kink else inf

    def deviation(self, t: Tensor) -> Tensor:
        """Return φ = σ(t) − λt − μ, zero on the piece.

        Args:
            t: pre-activations of any shape, float64.

        Returns:
            The deviations.
        """
        if self.beyond is not None:
            return (self.beyond.slope - self.piece.slope) * self.side * (self.side * (t - self.end)).clamp_min(0.0)
        return torch.where(self.piece.contains(t), 0.0, self.sigma(t) - self.piece.slope * t - self.piece.intercept)


def available_pieces(sigma: nn.Module, dtype: torch.dtype) -> tuple[AffinePiece, ...]:
    """Return the exact pieces, or where none of them is alive the affine tails.

    Args:
        sigma: the activation.
        dtype: in whose rounding a tail must be affine.

    Returns:
        The pieces.

    Raises:
        ActivationError: if none has a slope other than 0.
    """
    exact = affine_pieces(sigma, channel=0)
    pieces = exact if any(piece.alive for piece in exact) else (*affine_tails(sigma, dtype=dtype), *exact)
    if not any(piece.alive for piece in pieces):
        raise ActivationError(
            f"{sigma} has no affine piece or tail with a slope other than 0, so no layer of it can be inserted and "
            "then bent; choose ReLU, ELU or GELU."
        )
    return pieces


def choose_crossing(sigma: nn.Module, dtype: torch.dtype, occupied: Collection[AffinePiece] | None = None) -> Crossing:
    """Choose the end over which inserted neurons leave: a kink before a curved end, and a dead piece before an alive.

    A neuron from a dead piece has no affine part that others must make up for.

    Args:
        sigma: the activation.
        dtype: of the network.
        occupied: pieces that neurons are on already; all that there are when None.

    Returns:
        The crossing.

    Raises:
        ActivationError: if σ is affine, or jumps at every end.
    """
    plain = deepcopy(sigma).double()
    pieces = available_pieces(sigma, dtype)
    candidates = [
        crossing
        for piece in (pieces if occupied is None else occupied)
        for crossing in _ways_out(plain, piece, affine_pieces(sigma, channel=0))
    ]
    if not candidates:
        raise ActivationError(f"{sigma} has no end of an affine piece that can be crossed without a jump; choose ReLU.")
    return min(candidates, key=lambda each: (not each.is_kink, each.piece.alive))


def _ways_out(sigma: nn.Module, piece: AffinePiece, exact: tuple[AffinePiece, ...]) -> list[Crossing]:
    """Return the crossings over the finite ends of a piece at which σ is continuous."""
    found = []
    for end, side in ((piece.lower, -1), (piece.upper, 1)):
        if not isfinite(end):
            continue
        beyond = next((other for other in exact if (other.upper if side < 0 else other.lower) == end), None)
        if beyond is None or _meet(piece, beyond, end):
            found.append(Crossing(sigma, piece, end, side, beyond))
    return found


def _meet(first: AffinePiece, second: AffinePiece, end: float) -> bool:
    """Tell whether two lines meet at a point but are not the same."""
    gap = abs((first.slope - second.slope) * end + first.intercept - second.intercept)
    return gap <= _CONTINUOUS * max(1.0, abs(end)) and first.slope != second.slope
