"""Critical lifting in depth: inserting linearized layers in front of affine maps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from liftscape._random import as_generator
from liftscape.activations import AffinePiece, as_module
from liftscape.embedding._chart import ComposedChart
from liftscape.embedding._choose import check_margin, choose_activation, choose_pieces, choose_widths
from liftscape.embedding._depth_chart import DepthChart, InsertedLayer
from liftscape.embedding._draw import numerical_rank, singular_values
from liftscape.embedding._embedding import Embedding
from liftscape.embedding._inertia_prediction import DepthLaw
from liftscape.embedding._insert import insert, layer_suffix, lines_of, matrices_of
from liftscape.embedding._manifold import LiftedManifold
from liftscape.embedding._occupied_layer import OccupiedLayer
from liftscape.embedding._preserved import require_preserved
from liftscape.embedding._width_law import ComposedLaw
from liftscape.functional import require_module, trainable_parameters
from liftscape.outcomes import ActivationError, EmbeddingError, ModelError, Outcome
from liftscape.sites import AFFINE, copy_with, groups_of, require_site

__all__ = ["LiftedSite", "lift"]


@dataclass(frozen=True)
class LiftedSite(Outcome):
    """What was inserted at one affine map.

    Attributes:
        name: the map's name in the smaller network.
        widths: neurons of each inserted layer.
        rank: rank of W, of a convolution in groups the sum of the groups' ranks.
        singular_values: of W, those of all groups together.
        pieces: of each inserted layer, neuron by neuron.
        margin: smallest distance of a pre-activation to an end of its piece, on the data.
        bound: largest deviation of σ from its line; 0.0 for exact pieces.
    """

    name: str
    widths: tuple[int, ...]
    rank: int
    singular_values: tuple[float, ...]
    pieces: tuple[tuple[AffinePiece, ...], ...]
    margin: float
    bound: float


def lift(
    model: "nn.Module | Embedding",
    inputs: Any,
    at: str | Sequence[str],
    *,
    width: int | Sequence[int] | None = None,
    activation: "nn.Module | type[nn.Module] | str | None" = None,
    generator: torch.Generator | int | None = None,
    pieces: Sequence[int] | None = None,
    margin: float = 0.25,
    share: bool = False,
) -> Embedding:
    """Insert layers u = σ(A h + c) in front of z = W h + b so that outputs on S and criticality are kept.

    z = B u + d with BΛA = W and B(Λc + μ) + d = b, where every inserted neuron stays on one affine piece
    σ(t) = λt + μ for all samples of S. If ∇R_S(θ) = 0 then ∇R_S(θ′) = 0, and H′ = JᵀHJ. Of a convolution A takes the
    kernel with all its options, so that borders stay exact, and B is 1 × 1 in the same groups; the samples of h are
    then its patches, and the least width of a group is the rank of its kernel matrix.

    Source: Bai et al. 2022 (arXiv 2205.13283), critical lifting; theory 3 and T1–T4.

    Args:
        model: any module, or an embedding to be lifted further; it is left as it was.
        inputs: S: a tensor, (inputs, targets), or a re-iterable of batches; read once for each site.
        at: name of a Linear, Conv1d or Conv2d, or several names.
        width: neurons of the inserted layer, or of each of several layers inserted in a row; rank W + 1 when None. In
            front of a convolution in groups a multiple of them, when None their number times the largest rank + 1.
        activation: module, class or name; when None that which follows the site, or precedes it, or ReLU. Without an
            alive affine piece, the affine tail is used, with its bound as evidence.
        generator: source of randomness, on the CPU; seed 0 when None.
        pieces: for each neuron (cycled), the number of its piece from the left; all alive pieces in turn when None.
        margin: distance to the ends as a share of the range of the pre-activations.
        share: whether the new network and its base hold the given network's own parameters where nothing changes, so
            that only the new weights take memory; training one then trains the others.

    Returns:
        The embedding: new network, chart, manifold, evidence.

    Raises:
        SiteError: if there is no such map, or a hypothesis of criticality fails there (it says which).
        EmbeddingError: if the width is below the rank, the margin is none, or no lift without bias exists.
        ActivationError: if the activation has no alive piece and no tail, as tanh.
        ModelError: if the network is none, on the meta device, or does not run on the inputs.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> x = torch.randn(10, 2, dtype=torch.float64)
        >>> deeper = lift(net, x, "2", width=4, activation="elu")
        >>> bool((deeper.model(x) - net(x)).abs().max() < 1e-12)
        True
    """
    draws = as_generator(generator)
    check_margin(margin)
    names = [at] if isinstance(at, str) else list(at)
    if not names:
        raise EmbeddingError("a lift goes in front of a map; give its name, or several, as at.")
    embedding = model if isinstance(model, Embedding) else None
    network = require_module(embedding.model if embedding else model)
    for name in names:
        step = _lift_one(network, name, inputs, width, activation, draws, pieces, margin, share)
        embedding = step if embedding is None else _compose(embedding, step, name)
        network = embedding.model
    assert embedding is not None
    return embedding


def _lift_one(
    model: nn.Module,
    name: str,
    inputs: Any,
    width: int | Sequence[int] | None,
    activation: Any,
    generator: torch.Generator,
    pieces: Sequence[int] | None,
    margin: float,
    share: bool,
) -> Embedding:
    """Lift one site by one or several layers."""
    site = require_site(model, name, inputs, AFFINE)
    linear = model.get_submodule(site.name)
    assert isinstance(linear, AFFINE)
    groups = groups_of(linear)
    weight = matrices_of(linear)
    if not bool(torch.isfinite(weight).all()):
        raise ModelError(f"{site.name}.weight is not finite, so it has no rank; load other weights first.")
    values = singular_values(weight, linear.weight.dtype)
    ranks = [numerical_rank(own, each) for own, each in zip(weight, values, strict=True)]
    del weight
    widths = choose_widths(site, max(ranks), width, groups)
    sigma = choose_activation(model, site, inputs) if activation is None else as_module(activation)
    if isinstance(sigma, nn.RReLU) and linear.training:
        raise ActivationError(
            f"RReLU in front of '{site.name}' would draw its slope at random, since the network is in training mode; "
            "call eval() on it, or choose LeakyReLU."
        )
    chosen = [choose_pieces(sigma, k, ranks, site, pieces, linear.weight.dtype) for k in widths]
    drawn = lambda network, source: insert(network, site, inputs, sigma, chosen, source, margin, share)
    lifted, smallest = drawn(model, generator)

    layers = tuple(
        OccupiedLayer(
            _name(site.name, f"A{layer_suffix(i)}"), _name(site.name, f"activation{layer_suffix(i)}"), tuple(own)
        )
        for i, own in enumerate(chosen)
    )
    chart = DepthChart(
        site.name,
        tuple(InsertedLayer(layer.name, *lines_of(layer.pieces)) for layer in layers),
        _name(site.name, "B"),
        tuple(trainable_parameters(model)),
        groups,
    )
    require_preserved(model, lifted, chart, inputs, f"the lift of '{site.name}'")
    base = copy_with(model, {}, share)
    redraw: Callable[[torch.Generator | None], nn.Module] = lambda source: drawn(base, source or generator)[0]
    manifold = LiftedManifold(lifted, base, chart, layers, inputs, redraw)
    params = trainable_parameters(lifted)
    # Frames with orthonormal columns lose no direction of h, so that J is onto; else ranks tell, at some cost.
    alive = [torch.tensor([piece.alive for piece in own]).reshape(groups, -1).sum(dim=1).min() for own in chosen]
    onto = all(int(each) >= site.in_features for each in alive)
    added = sum(tensor.numel() for tensor in params.values())
    added -= sum(tensor.numel() for tensor in trainable_parameters(model).values())
    law = DepthLaw(0 if onto else chart.corank(params), added)
    evidence = LiftedSite(
        site.name,
        tuple(widths),
        sum(ranks),
        tuple(sorted(values.flatten().tolist(), reverse=True)),
        tuple(tuple(own) for own in chosen),
        smallest,
        max(piece.bound for own in chosen for piece in own),
    )
    return Embedding(lifted, base, (evidence,), chart, law, manifold)


def _compose(first: Embedding, second: Embedding, at: str) -> Embedding:
    """Return the embedding of an embedding: charts compose, and the first one's layers keep their pieces."""
    assert second.lifted is not None
    chart = ComposedChart(second.chart, first.chart)
    if first.lifted is None:
        law = ComposedLaw(second.law, first.law, first.model)
        return Embedding(second.model, first.base, (*first.sites, *second.sites), chart, law)
    earlier = first.lifted
    # A layer in front of which another was inserted makes its pre-activations in that one's B.
    kept = tuple(
        OccupiedLayer(_name(layer.name, "B") if layer.name == at else layer.name, layer.activation, layer.pieces)
        for layer in earlier.layers
    )
    params = trainable_parameters(second.model)
    law = DepthLaw(chart.corank(params), chart.added_parameters(params))
    manifold = LiftedManifold(
        second.model, first.base, chart, (*kept, *second.lifted.layers), second.lifted.inputs, second.lifted.redraw
    )
    return Embedding(second.model, first.base, (*first.sites, *second.sites), chart, law, manifold)


def _name(module: str, child: str) -> str:
    """Return the full name of a child."""
    return f"{module}.{child}" if module else child
