"""General compatible embeddings: layers become wider by copies of their neurons and by null neurons."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from liftscape._random import as_generator
from liftscape.embedding._chart import ComposedChart
from liftscape.embedding._embedding import Embedding
from liftscape.embedding._inertia_prediction import InertiaLaw
from liftscape.embedding._neuron_map import NeuronMap, check_factors
from liftscape.embedding._null_law import beside_null_neurons
from liftscape.embedding._preserved import require_preserved
from liftscape.embedding._readers import follow_neurons
from liftscape.embedding._synthetic import synthetic_inputs
from liftscape.embedding._widenable_layers import (
    places_of,
    require_affine,
    require_biases,
    require_layer,
    require_trainable,
)
from liftscape.embedding._width_chart import WidenedLayer, WidthChart
from liftscape.embedding._width_law import ComposedLaw, CopiesLaw, NullLaw
from liftscape.functional import require_module, trainable_parameters
from liftscape.outcomes import EmbeddingError, Outcome, SiteError
from liftscape.sites import Affine, copy_with, remade

__all__ = ["WidenedSite", "columns_of", "embed"]

Factors = Mapping[tuple[str, str], Float[Tensor, "rows wider"]]


@dataclass(frozen=True)
class WidenedSite(Outcome):
    """What became wider.

    Attributes:
        name: the Linear or convolution that got more output neurons.
        readers: the maps that read them.
        index: which neuron each is a copy of, None for a null neuron.
        shares: how much of it each hands on.
        null_like: neurons that hand on nothing: null neurons, and copies with share 0.
    """

    name: str
    readers: tuple[str, ...]
    index: tuple[int | None, ...]
    shares: tuple[float, ...]
    null_like: tuple[int, ...]


def embed(
    model: "nn.Module | Embedding",
    inputs: Any = None,
    *,
    layers: Mapping[str, NeuronMap],
    factors: Factors | None = None,
    generator: torch.Generator | int | None = None,
) -> Embedding:
    """Embed a network in a wider one by index maps and factors: W′_ij = α_ij W_I(i)I(j), b′_i = b_I(i).

    Σ_{j∈I⁻¹(s)} α_ij = 1 keeps outputs for every input, Σ_{i∈I⁻¹(k)} β_i α_ij = β_j keeps criticality for every S, loss
    and activation; α_ij = β_j unless given. n₋ and n₊ never fall.

    Source: Zhang et al. 2022 (arXiv 2111.15527), general compatible embedding; the inertia is derived (theory 6).

    Args:
        model: any module, or an embedding to be widened further; it is left as it was.
        inputs: samples with which the forward pass is recorded where it cannot be traced symbolically, as with Conv2d.
        layers: the map of each layer, a Linear or Conv2d whose channels are neurons, by name.
        factors: α by (reader, layer), one row for each neuron of the wider reader.
        generator: source of null neurons' biases, on the CPU; seed 0 when None.

    Returns:
        The embedding; its chart is w_s = Σ_j β_j w_j, a_s = Σ_j a_j over the copies j of s.

    Raises:
        EmbeddingError: if an index map or factors are not compatible; it says which equation fails.
        SiteError: if a map is tied, reparametrised or frozen, its neurons are read by more than maps, or a reader of
            a null neuron has no bias.
        ModelError: if the network is none, or on the meta device.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> x = torch.randn(10, 2, dtype=torch.float64)
        >>> wider = embed(net, layers={"0": NeuronMap((2, 0, 1, 0, 0), (1.0, 1.0, 1.0, 1.0, -1.0))})
        >>> wider.model[0].out_features, bool((wider.model(x) - net(x)).abs().max() < 1e-12)
        (5, True)
    """
    given = model if isinstance(model, Embedding) else None
    network = require_module(given.model if given else model)
    if not layers:
        raise EmbeddingError("an embedding in width needs a layer; give layers={name: NeuronMap(index, shares)}.")
    widened: dict[str, WidenedLayer] = {}
    for name, neurons in layers.items():
        width = len(require_layer(network, name).weight)
        neurons.check(name, width)
        found = follow_neurons(network, name, inputs)
        require_trainable(network, (name, *found.readers))
        if None in neurons.index:
            require_biases(network, name, found.readers)
        places = {reader: places_of(network, name, reader) for reader in found.readers}
        widened[name] = WidenedLayer(neurons, width, places, found.norms)
    given_factors = dict(factors or {})
    _check_factors(network, widened, given_factors)
    if any(own.norms for own in widened.values()) and inputs is None:
        raise SiteError("whether a BatchNorm's channels are the neurons is seen on inputs; pass inputs=.")
    changes = _wider_maps(network, widened, given_factors, as_generator(generator))
    changes |= {norm: _wider_norm(network, norm, own.neurons) for own in widened.values() for norm in own.norms}
    wider = copy_with(network, changes)
    chart = WidthChart(widened, tuple(trainable_parameters(network)))
    evidence = tuple(
        WidenedSite(name, tuple(own.readers), own.neurons.index, own.neurons.shares, own.neurons.null_like)
        for name, own in widened.items()
    )
    samples = synthetic_inputs(network, next(iter(widened))) if inputs is None else inputs
    what = f"the embedding that widens {' and '.join(map(repr, widened))}"
    has_null = any(None in own.neurons.index for own in widened.values())
    require_preserved(network, wider, chart, samples, what, beside_null_neurons(wider, widened) if has_null else None)
    law = _law_of(network, widened, chart.added_parameters(trainable_parameters(wider)), inputs)
    step = Embedding(wider, copy_with(network, {}), evidence, chart, law)
    if given is None:
        return step
    composed = ComposedChart(step.chart, given.chart)
    return Embedding(
        step.model, given.base, (*given.sites, *evidence), composed, ComposedLaw(law, given.law, given.model)
    )


def _law_of(model: nn.Module, widened: Mapping[str, WidenedLayer], added: int, inputs: Any) -> InertiaLaw:
    """Return the exact law where one Linear is read by Linears and has copies alone, else the bounds."""
    (name, own), *others = widened.items()
    plain = all(isinstance(model.get_submodule(each), nn.Linear) for each in (name, *own.readers))
    if others or not plain or own.norms or None in own.neurons.index:
        return NullLaw(added)
    shares: dict[int, tuple[float, ...]] = {}
    for source in range(own.width):
        pairs = zip(own.neurons.index, own.neurons.shares, strict=True)
        copies = tuple(share for other, share in pairs if other == source)
        if len(copies) > 1:
            shares[source] = copies
    columns = torch.cat([require_affine(model, reader).weight.detach() for reader in own.readers])
    zeros = sum(len(copies) - 1 for source, copies in shares.items() if bool(columns[:, source].any()))
    return CopiesLaw(name, shares, added, zeros, inputs)


def _wider_maps(
    model: nn.Module, widened: Mapping[str, WidenedLayer], factors: Factors, generator: torch.Generator
) -> dict[str, nn.Module]:
    """Return the new maps: rows of the widened layers, columns of their readers."""
    changes: dict[str, Affine] = {}
    for name, own in widened.items():
        changes[name] = _with_rows(require_layer(model, name), own.neurons, generator)
    for name, own in widened.items():
        columns, shares = own.neurons.columns(own.width), torch.tensor(own.neurons.shares, dtype=torch.float64)
        for reader, places in own.readers.items():
            map_ = changes.get(reader) or require_affine(model, reader)
            alpha = factors.get((reader, name), shares.expand(len(map_.weight), -1))
            blocks = columns_of(map_, own.width)
            copied = torch.einsum("isp,sj->ijp", blocks, columns.to(blocks)) * alpha.to(blocks)[:, :, None]
            shape = (len(blocks), len(own.neurons.index) * places, *map_.weight.shape[2:])
            changes[reader] = remade(map_, copied.reshape(shape), map_.bias)
    return dict(changes)


def columns_of(reader: Affine, width: int) -> Float[Tensor, "out width places"]:
    """Return what a map reads of each neuron: one column, a kernel, or the places of a channel.

    Args:
        reader: the map.
        width: neurons of the layer that it reads.

    Returns:
        Its weights, float64.
    """
    return reader.weight.detach().double().reshape(len(reader.weight), width, -1)


def _wider_norm(model: nn.Module, name: str, neurons: NeuronMap) -> nn.Module:
    """Return a BatchNorm with a channel for each new neuron; those of null neurons are as the first one's."""
    wider = copy.deepcopy(model.get_submodule(name))
    assert isinstance(wider, _BatchNorm)
    rows = torch.tensor([0 if source is None else source for source in neurons.index])
    for own in (dict(wider._parameters), dict(wider._buffers)):
        for key, tensor in own.items():
            if tensor is not None and tensor.ndim:
                copied = tensor.detach()[rows.to(tensor.device)].clone()
                setattr(wider, key, nn.Parameter(copied) if isinstance(tensor, nn.Parameter) else copied)
    wider.num_features = len(rows)
    return wider


def _with_rows(map_: Affine, neurons: NeuronMap, generator: torch.Generator) -> Affine:
    """Return a map with a row for each new neuron; those of null neurons are zero, with a bias that is drawn."""
    rows = torch.tensor([-1 if source is None else source for source in neurons.index])
    null = rows < 0
    weight = map_.weight.detach()[rows.clamp_min(0)].clone()
    weight[null] = 0
    bias = None
    if map_.bias is not None:
        bias = map_.bias.detach()[rows.clamp_min(0)].clone()
        bias[null] = torch.randn(int(null.sum()), generator=generator, dtype=torch.float64).to(bias)
    return remade(map_, weight, bias)


def _check_factors(model: nn.Module, widened: Mapping[str, WidenedLayer], factors: Factors) -> None:
    """Raise unless all factors belong to a layer and its reader, and are compatible."""
    for (reader, at), alpha in factors.items():
        if at not in widened or reader not in widened[at].readers:
            pairs = [(reader, name) for name, own in widened.items() for reader in own.readers]
            raise EmbeddingError(f"factors are given for {(reader, at)}, but only {pairs} read one another.")
        reads = widened[reader].neurons if reader in widened else None
        check_factors(alpha, at, widened[at].neurons, reader, reads, len(require_affine(model, reader).weight))
