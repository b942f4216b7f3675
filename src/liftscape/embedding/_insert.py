"""Drawing a lift of one affine map: inserted layers on their affine pieces, from the extrema of one pass."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from liftscape.activations import AffinePiece, as_module
from liftscape.embedding._draw import Frame, draw_frames, place_on_pieces
from liftscape.sites import Affine, Site, copy_with, hearing_inputs, pointwise_map, remade, run_batches

__all__ = ["count", "insert", "lines"]

# Features that are worked on at a time: 8 MB in float32.
_ENTRIES = 2**21


def insert(
    model: nn.Module,
    site: Site,
    linear: Affine,
    weight: Tensor,
    inputs: Any,
    sigma: nn.Module,
    chosen: list[list[AffinePiece]],
    generator: torch.Generator,
    margin: float,
    share: bool,
) -> tuple[nn.Module, float]:
    """Draw one point of the manifold and put it in the place of the map; return the distance to its pieces' ends."""
    slopes, intercepts = zip(*(lines(own) for own in chosen), strict=True)
    frames, last = draw_frames(weight, [len(own) for own in chosen], [slope != 0 for slope in slopes], generator)
    divisors = [torch.where(slope != 0, slope, 1.0) for slope in slopes]
    low, high = _extrema(model, site.name, linear, inputs, frames, divisors)

    block: dict[str, nn.Module] = {}
    scale_before = torch.ones(weight.shape[1], dtype=torch.float64)
    constant = torch.zeros(weight.shape[1], dtype=torch.float64)
    smallest = torch.inf
    for i, (frame, own, slope, divisor) in enumerate(zip(frames, chosen, slopes, divisors, strict=True)):
        scale, bias = place_on_pieces(low[i], high[i], own, margin, site.bias)
        # The ends of what reaches σ follow from the extrema, without another pass over the data.
        smallest = min(smallest, _distance(scale * low[i] + bias, scale * high[i] + bias, own))
        A = (scale / divisor)[:, None] * frame.P / scale_before
        c = bias - A @ constant if site.bias else None
        block[f"A{count(i)}"] = pointwise_map(linear, A, c) if i else _reading(linear, A, c)
        block[f"activation{count(i)}"] = as_module(sigma).to(linear.weight.device, linear.weight.dtype)
        constant = slope * bias + intercepts[i]
        scale_before = torch.where(slope != 0, scale, 1.0)
    B = last / scale_before
    d = None if linear.bias is None else linear.bias.detach().to("cpu", torch.float64) - B @ constant
    inserted = nn.Sequential(OrderedDict(block, B=pointwise_map(linear, B, d)))
    return copy_with(model, {site.name: inserted}, share), smallest


def _distance(low: Tensor, high: Tensor, pieces: Sequence[AffinePiece]) -> float:
    """Return the smallest distance of intervals to the ends of their pieces, negative outside."""
    lower = torch.tensor([piece.lower for piece in pieces], dtype=torch.float64)
    upper = torch.tensor([piece.upper for piece in pieces], dtype=torch.float64)
    return float(torch.minimum(low - lower, upper - high).min())


def _extrema(
    model: nn.Module,
    name: str,
    linear: Affine,
    inputs: Any,
    frames: list[Frame],
    divisors: list[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the smallest and largest value of every neuron before scaling and biases, in one streaming pass."""
    maps = torch.cat([frame.onto_input / divisor[:, None] for frame, divisor in zip(frames, divisors, strict=True)])
    # The network's own dtype, if not a short one, will do: the margin is 2.5e-4 of the values at least.
    dtype = torch.promote_types(linear.weight.dtype, torch.float32)
    every = _reading(linear, maps, None).to(dtype).requires_grad_(False)
    del maps
    low = torch.full((len(every.weight),), torch.inf, dtype=torch.float64)
    high = -low

    def receive(_name: str, h: Tensor) -> None:
        channels_last = isinstance(linear, nn.Linear)
        h = h.reshape(-1, h.shape[-1]) if channels_last else h
        # Piece by piece, so that what is made of a large batch takes no more than a fraction of it.
        for part in h.split(max(1, _ENTRIES * len(h) // max(h.numel(), 1))):
            values = every(part.to(dtype))
            values = values if channels_last else values.movedim(1, -1).flatten(0, -2)
            torch.minimum(low, values.amin(dim=0).to(low), out=low)
            torch.maximum(high, values.amax(dim=0).to(high), out=high)

    with hearing_inputs(model, [name], receive):
        run_batches(model, inputs)
    widths = [len(divisor) for divisor in divisors]
    return list(low.split(widths)), list(high.split(widths))


def _reading(linear: Affine, matrix: Tensor, bias: Tensor | None) -> Affine:
    """Return a map that reads what another reads, of a convolution patches at the same places with the same borders."""
    return remade(linear, matrix.reshape(len(matrix), *linear.weight.shape[1:]), bias)


def lines(pieces: Sequence[AffinePiece]) -> tuple[Tensor, Tensor]:
    """Return λ and μ of the pieces, (k,) each, float64."""
    slope = torch.tensor([piece.slope for piece in pieces], dtype=torch.float64)
    return slope, torch.tensor([piece.intercept for piece in pieces], dtype=torch.float64)


def count(index: int) -> str:
    """Return "" for the first layer, "2" for the second, and so on."""
    return str(index + 1) if index else ""
