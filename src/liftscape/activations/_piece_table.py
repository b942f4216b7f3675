"""The pieces of a whole layer as tensors: which piece holds each neuron on all samples."""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from liftscape.activations._kinds import kind_of
from liftscape.activations._pieces import AffinePiece, exact_pieces
from liftscape.activations._tails import affine_tails

__all__ = ["PieceTable", "occupied_piece", "piece_table"]


@final
@dataclass(frozen=True)
class PieceTable:
    """Pieces p of the neurons j of one layer, float64.

    Attributes:
        lower: (pieces, width) left ends.
        upper: (pieces, width) right ends.
        slope: (pieces, width) λ.
        intercept: (pieces, width) μ.
        bound: (pieces, width) deviations, 0 for exact pieces.
    """

    lower: Float[Tensor, "pieces width"]
    upper: Float[Tensor, "pieces width"]
    slope: Float[Tensor, "pieces width"]
    intercept: Float[Tensor, "pieces width"]
    bound: Float[Tensor, "pieces width"]


def piece_table(
    activation: Any, width: int, *args: Any, include_tails: bool = False, dtype: torch.dtype = torch.float64, **kw: Any
) -> PieceTable:
    """Return the affine pieces of every neuron of a layer.

    Args:
        activation: an nn.Module, a function or a Tensor method.
        width: the number of neurons.
        *args: the call's arguments after the input.
        include_tails: whether numerically affine tails count, after the exact pieces.
        dtype: the dtype in whose rounding a tail must be affine.
        **kw: the call's keyword arguments.

    Returns:
        The table; with no rows for an activation without pieces.

    Raises:
        ActivationError: if the activation is unknown, random or not pointwise.

    Example:
        >>> piece_table(torch.nn.ReLU(), 3).slope
        tensor([[0., 0., 0.],
                [1., 1., 1.]], dtype=torch.float64)
    """
    kind = kind_of(activation, *args, **kw)
    tails = affine_tails(activation, *args, dtype=dtype, **kw) if include_tails else ()
    if not any(isinstance(value, Tensor) for value in kind.parameters.values()):
        # Neurons differ only by a learnt slope; a table of one for all of them takes a hundredth of the time.
        row = _entries([(*exact_pieces(kind, 0), *tails)] if width else [])
        return PieceTable(*(row[..., entry].T.expand(-1, width).contiguous() for entry in range(5)))
    table = _entries([(*exact_pieces(kind, channel), *tails) for channel in range(width)])
    return PieceTable(*(table[..., entry].T.contiguous() for entry in range(5)))


def _entries(rows: list[tuple[AffinePiece, ...]]) -> Float[Tensor, "width pieces 5"]:
    """Return the numbers of all pieces."""
    # Channels of a PReLU may differ in their number of pieces, as where a slope is one: pad with empty intervals.
    count = max((len(row) for row in rows), default=0)
    columns = [
        [(p.lower, p.upper, p.slope, p.intercept, p.bound) for p in row]
        + [(0.0, 0.0, 0.0, 0.0, 0.0)] * (count - len(row))
        for row in rows
    ]
    return torch.tensor(columns, dtype=torch.float64).reshape(len(rows), count, 5)


def occupied_piece(
    table: PieceTable, minimum: Float[Tensor, " width"], maximum: Float[Tensor, " width"]
) -> Int[Tensor, " width"]:
    """Return the piece that holds all pre-activations of each neuron, strictly inside its open interval.

    Source: Bai et al. 2022 (arXiv 2205.13283), condition (ii) of the lifting.

    Args:
        table: the layer's pieces.
        minimum: smallest pre-activation of each neuron.
        maximum: largest pre-activation of each neuron.

    Returns:
        Row numbers of the table; −1 where no piece holds them.

    Example:
        >>> table = piece_table(torch.nn.ReLU(), 3)
        >>> occupied_piece(table, torch.tensor([0.1, -2.0, -1.0]), torch.tensor([2.0, -1.0, 1.0]))
        tensor([ 1,  0, -1])
    """
    holds = (minimum > table.lower) & (maximum < table.upper)
    if not len(holds):
        return torch.full(minimum.shape, -1, device=minimum.device)
    return torch.where(holds.any(dim=0), holds.int().argmax(dim=0), -1)
