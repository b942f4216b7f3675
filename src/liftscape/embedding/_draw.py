"""Drawing the factors of a lift: a chain of linear maps whose product is W, each on its affine pieces."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from liftscape.activations import AffinePiece

__all__ = ["Frame", "draw_frames", "draw_grouped_frames", "numerical_rank", "place_on_pieces", "singular_values"]

# Rows of the outgoing factor that are worked on at a time.
_ROWS = 256
# Below so many rows and columns a singular value decomposition takes milliseconds.
_GRAM = 256


@dataclass(frozen=True)
class Frame:
    """A layer before it is placed on its pieces: P = ΛA with orthonormal rows or columns.

    Attributes:
        P: (k, features of the layer before); one such matrix for each group of a convolution.
        onto_input: (k, m_in), the product of this and all earlier frames.
    """

    P: Float[Tensor, "*groups k m"]
    onto_input: Float[Tensor, "*groups k m_in"]


def numerical_rank(weight: Float[Tensor, "m_out m_in"], values: Float[Tensor, " m"] | None = None) -> int:
    """Return the number of singular values above max(m)·eps·σ₁.

    Args:
        weight: (m_out, m_in).
        values: its singular values, where they are known already.

    Returns:
        The rank.
    """
    values = torch.linalg.svdvals(weight) if values is None else values
    if not len(values):
        return 0
    return int((values > max(weight.shape) * torch.finfo(weight.dtype).eps * values[0]).sum())


def singular_values(weight: Float[Tensor, "*groups m_out m_in"], dtype: torch.dtype) -> Float[Tensor, "*groups m"]:
    """Return the singular values of a map, descending, as exactly as the dtype that holds it determines them.

    Args:
        weight: W, float64.
        dtype: in which the map is held.

    Returns:
        The values, float64; their error is at most the rounding of W, eps(dtype)·σ₁.
    """
    resolution = torch.finfo(dtype).eps
    if resolution > torch.finfo(weight.dtype).eps and min(weight.shape[-2:]) >= _GRAM:
        # √λ(WWᵀ) errs by at most m·eps·σ₁²/σ and took 1.1 s for 2048², the decomposition of W itself 2.7 s.
        small = weight if weight.shape[-2] <= weight.shape[-1] else weight.mT
        values = torch.linalg.eigvalsh(small @ small.mT).flip(-1).clamp_min(0).sqrt()
        error = max(weight.shape) * torch.finfo(weight.dtype).eps * values[..., 0]
        if bool((error < resolution * values[..., -1]).all()):
            return values
    return torch.linalg.svdvals(weight)


def draw_frames(
    weight: Float[Tensor, "m_out m_in"], widths: Sequence[int], alive: Sequence[Tensor], generator: torch.Generator
) -> tuple[list[Frame], Float[Tensor, "m_out k"]]:
    """Draw P_1 … P_L with orthonormal rows or columns and B with B P_L … P_1 = W.

    Args:
        weight: W, float64.
        widths: k_1 … k_L.
        alive: for each layer, which neurons have λ ≠ 0, as booleans (k_i,).
        generator: source of randomness, on the CPU.

    Returns:
        The frames, and the outgoing factor B in the frames' coordinates.
    """
    frames: list[Frame] = []
    onto_input: Tensor | None = None
    remaining, frame = weight, weight
    for width, neurons in zip(widths, alive, strict=True):
        m = remaining.shape[1]
        placed = frame = _frame(remaining, int(neurons.sum()), generator)
        if not bool(neurons.all()):
            living, frame = frame, torch.zeros(width, m, dtype=weight.dtype)
            frame[neurons] = living
            # A dead neuron's input is free: it is cut off by λ = 0.
            placed = frame.clone()
            placed[~neurons] = (
                torch.randn(int((~neurons).sum()), m, generator=generator, dtype=weight.dtype) / width**0.5
            )
        frames.append(Frame(placed, placed if onto_input is None else placed @ onto_input))
        onto_input = frame if onto_input is None else frame @ onto_input
        # Rows or columns are orthonormal, so that the transpose is the pseudo-inverse, at no cost.
        remaining = remaining @ frame.T
    off = _complement(frame, frame.shape[0] - min(int(alive[-1].sum()), frame.shape[1]))
    scale = torch.linalg.matrix_norm(weight) / max(weight.numel(), 1) ** 0.5
    # Some rows at a time: a large map's factors are the memory that a lift takes.
    for rows in remaining.split(_ROWS):
        free = torch.randn(rows.shape, generator=generator, dtype=weight.dtype)
        rows += scale * (free @ off) @ off.T
    return frames, remaining


def draw_grouped_frames(
    weight: Float[Tensor, "groups m_out m_in"],
    widths: Sequence[int],
    alive: Sequence[Tensor],
    generator: torch.Generator,
) -> tuple[list[Frame], Float[Tensor, "groups m_out k"]]:
    """Draw such factors for each group of a convolution, one after the other.

    Args:
        weight: one W a group, float64.
        widths: k_1 … k_L of one group.
        alive: for each layer, which neurons of all groups have λ ≠ 0, as booleans (groups · k_i,).
        generator: source of randomness, on the CPU.

    Returns:
        The frames with a first axis of groups, and so the outgoing factor.
    """
    split = [neurons.reshape(len(weight), -1) for neurons in alive]
    if len(weight) == 1:
        # Views: stacking one would copy it.
        frames, last = draw_frames(weight[0], widths, [own[0] for own in split], generator)
        return [Frame(frame.P[None], frame.onto_input[None]) for frame in frames], last[None]
    drawn = [draw_frames(W, widths, [own[group] for own in split], generator) for group, W in enumerate(weight)]
    layers = [
        Frame(torch.stack([frame.P for frame in own]), torch.stack([frame.onto_input for frame in own]))
        for own in zip(*(frames for frames, _ in drawn), strict=True)
    ]
    return layers, torch.stack([last for _, last in drawn])


def _frame(weight: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Return (width, m) with orthonormal rows or columns, whose row space holds that of the weight."""
    m = weight.shape[1]
    if width >= m:
        return _uniform_frame(width, m, generator)
    rank = numerical_rank(weight)
    rows = torch.linalg.svd(weight)[2][:rank]
    extra = torch.randn(width - rank, m, generator=generator, dtype=weight.dtype)
    span = torch.linalg.qr(torch.cat([rows, extra]).T)[0].T
    return _uniform_frame(width, width, generator) @ span


def _complement(frame: Tensor, count: int) -> Float[Tensor, "k count"]:
    """Return orthonormal columns off those of a frame, whose columns or living rows are orthonormal.

    They are mostly one, so that projecting onto them costs far less than projecting all of a factor off the frame.
    """
    # Any basis gives the same projection, so that the caller's generator is left alone.
    drawn = torch.randn(frame.shape[0], count, generator=torch.Generator().manual_seed(0), dtype=frame.dtype)
    for _ in range(2):
        drawn = torch.linalg.qr(drawn - frame @ (frame.T @ drawn))[0]
    return drawn


def _uniform_frame(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Return orthonormal columns, uniformly distributed: LAPACK's reflections alone give one sign of det only."""
    # What qr does, without holding the matrix, its R and the product at once.
    reflections, tau = torch.geqrf(torch.randn(rows, columns, generator=generator, dtype=torch.float64))
    signs = torch.sign(torch.diagonal(reflections))
    return torch.linalg.householder_product(reflections, tau).mul_(signs)


def place_on_pieces(
    minimum: Float[Tensor, " k"],
    maximum: Float[Tensor, " k"],
    pieces: Sequence[AffinePiece],
    margin: float,
    with_bias: bool = True,
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Return scales s and biases c so that s·t + c lies in its piece for all t between minimum and maximum.

    Args:
        minimum: smallest value of each neuron before placing.
        maximum: largest value.
        pieces: the neurons' pieces.
        margin: distance to the ends as a share of the range (half-lines) or of the piece (bounded ones).
        with_bias: whether there is a c; without, pieces hold 0 and only the scale is chosen.

    Returns:
        s and c, (k,) each; s = 1 on half-lines.
    """
    scales, biases = torch.ones_like(minimum), torch.zeros_like(minimum)
    for j, piece in enumerate(pieces):
        low, high = float(minimum[j]), float(maximum[j])
        if not with_bias:
            ends = [end / reach for end, reach in ((piece.lower, low), (piece.upper, high)) if end * reach > 0]
            scales[j] = min(1.0, *((1 - 2 * margin) * end for end in ends))
            continue
        spread = max(high - low, 1e-3 * max(abs(low), abs(high), 1.0))
        if piece.lower > -torch.inf and piece.upper < torch.inf:
            room = (1 - 2 * margin) * (piece.upper - piece.lower)
            scales[j] = min(1.0, room / spread)
            biases[j] = piece.center - float(scales[j]) * (low + high) / 2
        elif piece.lower > -torch.inf:
            biases[j] = piece.lower + margin * spread - low
        elif piece.upper < torch.inf:
            biases[j] = piece.upper - margin * spread - high
    return scales, biases
