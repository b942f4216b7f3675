"""Choosing widths, activation and affine pieces of inserted layers, and refusing what cannot keep criticality."""

from collections.abc import Iterable, Sequence
from numbers import Integral

import torch
from torch import nn

from liftscape.activations import AffinePiece, affine_pieces, affine_tails, as_module, kind_of, module_of
from liftscape.forward import ForwardPass
from liftscape.outcomes import ActivationError, EmbeddingError
from liftscape.sites import Site

__all__ = ["check_margin", "choose_activation", "choose_pieces", "choose_widths"]


def choose_widths(site: Site, rank: int, width: int | Sequence[int] | None, groups: int = 1) -> list[int]:
    """Return the widths of the inserted layers, or raise if one is below the rank of W, the largest of any group."""
    given = [groups * (rank + 1)] if width is None else width
    widths = list(given) if isinstance(given, Iterable) else [given]
    if any(not isinstance(each, Integral) or isinstance(each, bool) for each in widths):
        raise EmbeddingError(f"a width is a whole number of neurons, but {width!r} was given.")
    if any(each % groups for each in widths):
        raise EmbeddingError(
            f"a layer in front of '{site.name}' has its neurons in {groups} groups of one size, but width {width} was "
            f"given; choose a multiple of {groups}."
        )
    if not widths or min(widths) < groups * max(rank, 1):
        every = "rank W" if groups == 1 else f"{groups} groups times the largest rank of a group"
        raise EmbeddingError(
            f"a layer in front of '{site.name}' needs at least {every} = {groups * max(rank, 1)} neurons (W is "
            f"{site.out_features} × {site.in_features}), but width {width} was given."
        )
    return widths


def check_margin(margin: float) -> None:
    """Raise unless the margin leaves room on both sides of a bounded piece."""
    if not 0 < margin < 0.5:
        raise EmbeddingError(
            f"margin is a share of a piece between 0 and 0.5, but {margin} was given; leave it at 0.25."
        )


def choose_activation(passed: ForwardPass, site: Site) -> nn.Module:
    """Return a copy of the activation that follows the site, or precedes it, or ReLU, whichever can be lifted first."""
    calls = {call.name: call for call in passed.calls}
    for name in (site.activation, site.feature_source):
        call = calls.get(name)
        if call is None:
            continue
        try:
            if call.is_module:
                kind_of(call.function)
                candidate = as_module(call.function)
            else:
                candidate = module_of(kind_of(call.function, *call.arguments, **call.keywords))
            if isinstance(candidate, nn.Identity):
                continue
            if isinstance(candidate, nn.PReLU) and candidate.num_parameters > 1:
                # Slopes by channel belong to the channels there, whose number is another.
                candidate = nn.PReLU(init=float(candidate.weight.detach().mean()))
            if any(piece.alive for piece in (*affine_pieces(candidate, channel=0), *affine_tails(candidate))):
                return candidate
        except ActivationError:
            continue
    return nn.ReLU()


def choose_pieces(
    sigma: nn.Module,
    width: int,
    ranks: Sequence[int],
    site: Site,
    pieces: Sequence[int] | None,
    dtype: torch.dtype,
) -> list[AffinePiece]:
    """Return one piece for each neuron: those asked for, else the alive exact ones in turn; `ranks` has one a group."""
    if isinstance(sigma, nn.PReLU) and sigma.num_parameters not in {1, width}:
        raise EmbeddingError(
            f"a layer of {width} neurons in front of '{site.name}' cannot have a PReLU with {sigma.num_parameters} "
            "slopes; give one slope, or one for each neuron."
        )
    if pieces is not None and len(pieces) == 0:
        raise EmbeddingError("pieces are numbers from the left, one for each neuron or cycled, but none was given.")
    per_neuron = [_available(sigma, channel, dtype) for channel in range(width)]
    if pieces is None:
        alive = [[piece for piece in own if piece.alive] for own in per_neuron]
        if not all(alive):
            raise ActivationError(
                f"{sigma} has no affine piece with a slope other than 0, so no exact lift in front of '{site.name}' "
                "exists; choose ReLU, ELU or GELU, or use approximate_lift."
            )
        if not site.bias:
            alive = [[piece for piece in own if _through_zero(piece)] for own in alive]
        if not all(alive):
            raise EmbeddingError(
                f"'{site.name}' has no bias, so a lift needs pieces through 0 (σ(t) = λt around t = 0), and {sigma} "
                "has none; give the map a bias, or choose Identity or Hardtanh."
            )
        chosen = [own[j % len(own)] for j, own in enumerate(alive)]
    else:
        for j, own in enumerate(per_neuron):
            wanted = pieces[j % len(pieces)]
            if not 0 <= wanted < len(own):
                raise EmbeddingError(
                    f"piece {wanted} was asked for neuron {j}, but {sigma} has the pieces 0..{len(own) - 1}; "
                    "number them from the left."
                )
        chosen = [own[pieces[j % len(pieces)]] for j, own in enumerate(per_neuron)]
        if not site.bias and not all(_through_zero(piece) for piece in chosen):
            raise EmbeddingError(
                f"'{site.name}' has no bias, so only pieces through 0 keep criticality; choose others."
            )
    size = width // len(ranks)
    for group, rank in enumerate(ranks):
        living = sum(piece.alive for piece in chosen[group * size : (group + 1) * size])
        if living < rank:
            own = "" if len(ranks) == 1 else f" in group {group}"
            raise EmbeddingError(
                f"a layer in front of '{site.name}' needs at least rank W = {rank} neurons{own} on pieces with a slope "
                f"other than 0, but {living} of {size} are; widen it or choose other pieces."
            )
    return chosen


def _available(sigma: nn.Module, channel: int, dtype: torch.dtype) -> list[AffinePiece]:
    """Return the exact pieces of one neuron, or its tails where no exact piece is alive."""
    exact = affine_pieces(sigma, channel=channel)
    if isinstance(sigma, nn.PReLU) and sigma.weight.requires_grad:
        # On the other side the learnt slope itself would have a gradient.
        exact = exact[-1:]
    if any(piece.alive for piece in exact):
        return list(exact)
    return [*affine_tails(sigma, dtype=dtype), *exact]


def _through_zero(piece: AffinePiece) -> bool:
    """Tell whether σ(t) = λt on a neighbourhood of 0."""
    return piece.lower < 0 < piece.upper and piece.intercept == 0
