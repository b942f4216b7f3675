"""Where an escape starts: a stuck network, or a lifted point whose own inserted layer is bent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import nn

from liftscape.activations import AffinePiece, as_module
from liftscape.embedding import DepthChart, Embedding, LiftedManifold
from liftscape.embedding.parts import choose_activation, numerical_rank
from liftscape.escaping._crossings import Crossing, available_pieces, choose_crossing
from liftscape.escaping._insertion import width_needed
from liftscape.outcomes import EmbeddingError
from liftscape.risk import EmpiricalRisk
from liftscape.sites import Site

__all__ = ["Layout", "layout_at", "lifted_layer"]


@final
@dataclass(frozen=True)
class Layout:
    """Activation and pieces of the layer to be inserted at a site.

    Attributes:
        site: the map.
        sigma: the activation.
        pieces: of each neuron before any leaves.
        leaving: numbers of those that leave.
        crossing: their way out.
        rank: of W.
    """

    site: Site
    sigma: nn.Module
    pieces: tuple[AffinePiece, ...]
    leaving: tuple[int, ...]
    crossing: Crossing
    rank: int


def lifted_layer(embedding: Embedding) -> LiftedManifold | None:
    """Return the manifold of a lift of a Linear by one layer with bias, on which paths are known; None for any other.

    Args:
        embedding: any.

    Returns:
        The manifold.
    """
    manifold = embedding.lifted
    if manifold is None or not isinstance(manifold.chart, DepthChart) or len(manifold.layers) != 1:
        return None
    map_ = manifold.base.get_submodule(manifold.chart.site)
    return manifold if isinstance(map_, nn.Linear) and map_.bias is not None else None


def layout_at(
    risk: EmpiricalRisk,
    site: Site,
    neurons: int,
    width: int | None,
    activation: Any,
    lifted: LiftedManifold | None,
) -> Layout:
    """Choose activation, pieces and the neurons that leave, or take those of a lifted layer.

    Args:
        risk: of the stuck network.
        site: the map.
        neurons: how many leave.
        width: of the layer; the smallest that will do when None.
        activation: as for :func:`liftscape.lift`.
        lifted: whose layer is bent, if any.

    Returns:
        The layout.

    Raises:
        EmbeddingError: if the layer is too narrow.
    """
    map_: Any = risk.model.get_submodule(site.name)
    rank, dtype = numerical_rank(map_.weight.detach().double().flatten(1)), map_.weight.dtype
    if lifted is not None:
        layer = lifted.layers[0]
        sigma = as_module(lifted.model.get_submodule(layer.activation))
        crossing = choose_crossing(sigma, dtype, layer.pieces)
        leaving = [j for j, piece in enumerate(layer.pieces) if piece == crossing.piece][:neurons]
        _check_width(site, rank, neurons, crossing, layer.pieces, leaving)
        return Layout(site, sigma, layer.pieces, tuple(leaving), crossing, rank)
    sigma = choose_activation(risk.model, site, risk.batches) if activation is None else as_module(activation)
    crossing = choose_crossing(sigma, dtype)
    needed = width_needed(site, rank, neurons, crossing.piece.alive)
    carrying = next(piece for piece in reversed(available_pieces(sigma, dtype)) if piece.alive)
    pieces = (carrying,) * ((needed if width is None else width) - neurons) + (crossing.piece,) * neurons
    leaving = range(len(pieces) - neurons, len(pieces)) if len(pieces) >= neurons else ()
    _check_width(site, rank, neurons, crossing, pieces, leaving)
    return Layout(site, sigma, pieces, tuple(leaving), crossing, rank)


def _check_width(
    site: Site,
    rank: int,
    neurons: int,
    crossing: Crossing,
    pieces: Sequence[AffinePiece],
    leaving: Sequence[int],
) -> None:
    """Raise if too few alive neurons stay to carry the map."""
    needed = width_needed(site, rank, neurons, crossing.piece.alive)
    staying = sum(piece.alive for j, piece in enumerate(pieces) if j not in leaving)
    if len(leaving) < neurons or staying + neurons < needed:
        spare = " with one spare alive neuron" if crossing.piece.alive else ""
        raise EmbeddingError(
            f"an escape at '{site.name}' with {neurons} neuron{'s' if neurons > 1 else ''} that leave needs a layer of "
            f"width ≥ {needed}{spare} (rank W = {rank}, W is {site.out_features} × {site.in_features}), but it has "
            f"{staying + len(leaving)} that can be used; widen it."
        )
