"""Building the block of a lift: its factors drawn, placed on their pieces and put where the affine map was."""

from collections import OrderedDict
from collections.abc import Sequence
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.activations import AffinePiece, as_module
from liftscape.embedding._draw import Frame, draw_grouped_frames, place_on_pieces
from liftscape.forward import (
    AFFINE,
    Affine,
    Each,
    Inputs,
    Observation,
    copy_with,
    groups_of,
    pointwise_map,
    remade,
    stream,
)
from liftscape.sites import Site

__all__ = ["insert", "layer_suffix", "lines_of", "matrices_of"]

# Features that are worked on at a time: 8 MB in float32.
_ENTRIES = 2**21


def insert(
    model: nn.Module,
    site: Site,
    inputs: object,
    sigma: nn.Module,
    chosen: Sequence[Sequence[AffinePiece]],
    generator: torch.Generator,
    margin: float,
    share: bool,
) -> tuple[nn.Module, float]:
    """Draw one point of the lifted manifold and put it in the place of the map.

    Args:
        model: any module; it is left as it was.
        site: of the map.
        inputs: S, read once.
        sigma: the activation.
        chosen: for each inserted layer one piece a neuron, group by group.
        generator: source of randomness, on the CPU.
        margin: as for lift.
        share: whether weights that stay are the model's own.

    Returns:
        A copy of the model with the block in it, and the smallest distance to the ends of the pieces.
    """
    linear = model.get_submodule(site.name)
    assert isinstance(linear, AFFINE)
    groups = groups_of(linear)
    slopes, intercepts = zip(*(lines_of(own) for own in chosen), strict=True)
    widths = [len(own) // groups for own in chosen]
    frames, last = draw_grouped_frames(matrices_of(linear), widths, [slope != 0 for slope in slopes], generator)
    divisors = [torch.where(slope != 0, slope, 1.0) for slope in slopes]
    low, high = _extrema(model, site.name, linear, inputs, frames, divisors)

    block: dict[str, nn.Module] = {}
    scale_before = torch.ones(groups, 1, site.in_features, dtype=torch.float64)
    constant = torch.zeros(groups * site.in_features, dtype=torch.float64)
    smallest = inf
    for i, (frame, own, slope, divisor) in enumerate(zip(frames, chosen, slopes, divisors, strict=True)):
        scale, bias = place_on_pieces(low[i], high[i], own, margin, site.bias)
        # The ends of what reaches σ follow from the extrema, without another pass over the data.
        smallest = min(smallest, _distance(scale * low[i] + bias, scale * high[i] + bias, own))
        A = ((scale / divisor).reshape(groups, -1, 1) * frame.P).div_(scale_before)
        c = bias - _times(A, constant) if site.bias else None
        block[f"A{layer_suffix(i)}"] = pointwise_map(linear, A.flatten(0, 1), c) if i else _reading(linear, A, c)
        block[f"activation{layer_suffix(i)}"] = as_module(sigma).to(linear.weight.device, linear.weight.dtype)
        del A
        constant = slope * bias + intercepts[i]
        scale_before = torch.where(slope != 0, scale, 1.0).reshape(groups, 1, -1)
    B = last.div_(scale_before)
    d = None if linear.bias is None else linear.bias.detach().to("cpu", torch.float64) - _times(B, constant)
    inserted = nn.Sequential(OrderedDict(block, B=pointwise_map(linear, B.flatten(0, 1), d)))
    return copy_with(model, {site.name: inserted}, share), smallest


def _distance(low: Tensor, high: Tensor, pieces: Sequence[AffinePiece]) -> float:
    """Return the smallest distance of intervals to the ends of their pieces, negative outside."""
    lower = torch.tensor([piece.lower for piece in pieces], dtype=torch.float64)
    upper = torch.tensor([piece.upper for piece in pieces], dtype=torch.float64)
    return float(torch.minimum(low - lower, upper - high).min())


def matrices_of(map_: Affine) -> Float[Tensor, "groups m_out m_in"]:
    """Return W of an affine map, one matrix a group, in float64 on the CPU.

    Args:
        map_: a Linear, which has one group, or a convolution, whose features are the entries of its patches.

    Returns:
        The matrices, new unless the map is such already.
    """
    groups = groups_of(map_)
    rows = map_.weight.detach().to("cpu", torch.float64)
    return rows.reshape(groups, len(rows) // groups, -1)


def lines_of(pieces: Sequence[AffinePiece]) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Return λ and μ of the pieces, float64.

    Args:
        pieces: one a neuron.

    Returns:
        Slopes and intercepts.
    """
    slope = torch.tensor([piece.slope for piece in pieces], dtype=torch.float64)
    return slope, torch.tensor([piece.intercept for piece in pieces], dtype=torch.float64)


def layer_suffix(index: int) -> str:
    """Return "" for the first of several layers in a row, "2" for the second, and so on.

    Args:
        index: from 0.

    Returns:
        What is appended to the names of its modules.
    """
    return str(index + 1) if index else ""


def _extrema(
    model: nn.Module,
    name: str,
    linear: Affine,
    inputs: object,
    frames: list[Frame],
    divisors: list[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the smallest and largest value of every neuron before scaling and biases, in one streaming pass."""
    groups = len(frames[0].P)
    # The network's own dtype, if not a short one, will do: the margin is 2.5e-4 of the values at least.
    dtype = torch.promote_types(linear.weight.dtype, torch.float32)
    pairs = zip(frames, divisors, strict=True)
    each = [frame.onto_input.to(dtype, copy=True).div_(own.reshape(groups, -1, 1).to(dtype)) for frame, own in pairs]
    rows = each[0] if len(each) == 1 else torch.cat(each, dim=1)
    every = _reading(linear, rows, None).to(dtype).requires_grad_(False)
    widths = [rows.shape[1] for rows in each]
    # A large map's factors are the memory that a lift takes.
    del each, rows
    low = torch.full((len(every.weight),), torch.inf, dtype=torch.float64)
    high = -low

    def receive(seen: Observation) -> None:
        h = seen.tensor
        channels_last = isinstance(linear, nn.Linear)
        h = h.reshape(-1, h.shape[-1]) if channels_last else h
        # Piece by piece, so that what is made of a large batch takes no more than a fraction of it.
        for part in h.split(max(1, _ENTRIES * len(h) // max(h.numel(), 1))):
            values = every(part.to(dtype))
            values = values if channels_last else values.movedim(1, -1).flatten(0, -2)
            torch.minimum(low, values.amin(dim=0).to(low), out=low)
            torch.maximum(high, values.amax(dim=0).to(high), out=high)

    stream(model, inputs, [Each(Inputs([name]), receive)])
    by_layer = lambda ends: [own.flatten() for own in ends.reshape(groups, -1).split(widths, dim=1)]
    return by_layer(low), by_layer(high)


def _reading(linear: Affine, matrices: Float[Tensor, "groups k m_in"], bias: Tensor | None) -> Affine:
    """Return a map that reads what another reads, of a convolution patches at the same places with the same borders."""
    rows = matrices.flatten(0, 1)
    return remade(linear, rows.reshape(len(rows), *linear.weight.shape[1:]), bias)


def _times(matrices: Float[Tensor, "groups m k"], vector: Float[Tensor, " groups_k"]) -> Float[Tensor, " groups_m"]:
    """Return the product with a block diagonal matrix."""
    return (matrices @ vector.reshape(len(matrices), -1, 1)).flatten()
