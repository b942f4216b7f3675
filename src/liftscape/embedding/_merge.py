"""The way back from width: neurons with parallel in-weights become one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.activations import as_module, is_positively_homogeneous, kind_of
from liftscape.embedding._embed import columns_of
from liftscape.embedding._readers import find_readers
from liftscape.embedding._widenable_layers import places_of, require_affine, require_layer
from liftscape.functional import require_module
from liftscape.outcomes import ActivationError, EmbeddingError, Outcome
from liftscape.sites import Affine, copy_with, find_sites, output_gap, remade

__all__ = ["Merge", "merge"]

_ODD = {"tanh", "softsign", "identity", "sin", "tanhshrink", "softshrink", "hardshrink"}


@dataclass(frozen=True)
class Merge(Outcome):
    """A network with fewer neurons in one layer.

    Attributes:
        model: the narrower network, new.
        at: the layer.
        groups: neurons that became one, those that stayed alone left out.
        neurons_before: of the layer.
        neurons_after: of the layer.
        gap: largest difference of the outputs on the inputs; NaN without inputs.
        scale: largest output of the given network on them.
    """

    model: nn.Module
    at: str
    groups: tuple[tuple[int, ...], ...]
    neurons_before: int
    neurons_after: int
    gap: float
    scale: float


def merge(model: nn.Module, inputs: Any, at: str, *, tolerance: float = 1e-9) -> Merge:
    """Merge the neurons of a layer that have parallel in-weights: w ← Σ_j c_j w_j / Σ_j c_j, a ← Σ_j s_j a_j.

    For any activation neurons with the same (w, b) are parallel, s_j = 1; for one with σ(st) = sσ(t), s > 0, also
    positive multiples s_j(w, b); for an odd one also the opposite, s_j = −1. Outputs are kept for every input where
    they are exactly parallel; otherwise in-weights are averaged with the sizes c_j = ‖s_j a_j‖ of what neurons hand on,
    and the gap tells the effect.

    Source: Zhang et al. 2022 (arXiv 2111.15527), reduction of neurons with parallel input weights at plateaus.

    Args:
        model: any module; it is left as it was.
        inputs: a tensor, (inputs, targets), or a re-iterable of batches, on which the gap is measured; they also tell
            the activation, without which only equal neurons are merged. A Conv2d needs them.
        at: name of a Linear or Conv2d.
        tolerance: largest distance of in-weights and bias from their group's first, relative to their length.

    Returns:
        The network with its evidence.

    Raises:
        SiteError: if there is no such layer, or its neurons are read by more than maps.
        EmbeddingError: if the tolerance is negative.
        ModelError: if the network is none, on the meta device, or does not run on the inputs.

    Example:
        >>> from liftscape.embedding import split
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        >>> x = torch.randn(10, 2, dtype=torch.float64)
        >>> found = merge(split(net, None, "0", neuron=1, share=0.3).model, x, "0")
        >>> found.groups, found.neurons_after, found.gap < 1e-12
        (((1, 3),), 3, True)
    """
    if not tolerance >= 0:
        raise EmbeddingError(f"tolerance must be at least 0, but {tolerance} was given.")
    map_ = require_layer(require_module(model), at)
    readers = {name: require_affine(model, name) for name in find_readers(model, at, inputs)}
    for name in readers:
        places_of(model, at, name)
    homogeneous, odd = (False, False) if inputs is None else _laws_of(model, at, tuple(readers), inputs)
    rows = _rows(map_)
    lengths = rows.norm(dim=1)
    scales = torch.where(lengths > 0, lengths, 1.0) if homogeneous else torch.ones_like(lengths)
    groups, signs = _groups(rows / scales[:, None], tolerance, odd)
    factors = signs * scales
    outgoing = torch.cat([columns_of(reader, len(rows)).movedim(1, 0).flatten(1) for reader in readers.values()], dim=1)
    sizes = (factors.abs() * outgoing.norm(dim=1)).clamp_min(torch.finfo(torch.float64).tiny)
    merged, gathering = [], torch.zeros(len(groups), len(rows), dtype=torch.float64, device=rows.device)
    for place, group in enumerate(groups):
        own = sizes[group] / sizes[group].sum()
        scale = (own * scales[group]).sum()
        # Alone, a neuron keeps its bits.
        merged.append(rows[group[0]] if len(group) == 1 else own @ (rows[group] / factors[group, None]) * scale)
        gathering[place, group] = 1.0 if len(group) == 1 else factors[group] / scale
    changes: dict[str, nn.Module] = {at: _with(map_, torch.stack(merged))}
    for name, reader in readers.items():
        columns = torch.einsum("ijp,sj->isp", columns_of(reader, len(rows)), gathering)
        shape = (len(columns), columns.shape[1] * reader.weight.shape[1] // len(rows), *reader.weight.shape[2:])
        changes[name] = remade(reader, columns.reshape(shape), reader.bias)
    narrower = copy_with(model, changes)
    gap, largest = (float("nan"), float("nan")) if inputs is None else output_gap(model, narrower, inputs)
    together = tuple(tuple(group) for group in groups if len(group) > 1)
    return Merge(narrower, at, together, len(rows), len(groups), gap, largest)


def _rows(map_: Affine) -> Float[Tensor, "m d"]:
    """Return in-weights and bias of each neuron, float64."""
    weight = map_.weight.detach().double().flatten(1)
    return weight if map_.bias is None else torch.cat([weight, map_.bias.detach().double()[:, None]], dim=1)


def _with(map_: Affine, rows: Float[Tensor, "m d"]) -> Affine:
    """Return a map with other in-weights and biases."""
    weight, bias = (rows, None) if map_.bias is None else (rows[:, :-1], rows[:, -1])
    return remade(map_, weight.reshape(len(rows), *map_.weight.shape[1:]), bias)


def _groups(rows: Float[Tensor, "m d"], tolerance: float, odd: bool) -> tuple[list[list[int]], Float[Tensor, " m"]]:
    """Return the neurons that are parallel to the first of their group, and the sign of each against it."""
    groups: list[list[int]] = []
    signs = torch.ones(len(rows), dtype=rows.dtype, device=rows.device)
    for j, row in enumerate(rows):
        for group, sign in ((group, sign) for group in groups for sign in ((1.0, -1.0) if odd else (1.0,))):
            first = rows[group[0]]
            if float((sign * row - first).norm()) <= tolerance * float(torch.maximum(row.norm(), first.norm())):
                signs[j] = sign
                group.append(j)
                break
        else:
            groups.append([j])
    return groups, signs


def _laws_of(model: nn.Module, at: str, readers: Sequence[str], inputs: Any) -> tuple[bool, bool]:
    """Tell whether σ is positively homogeneous, and whether it is odd; neither where it is not alone on the way."""
    sites = {site.name: site for site in find_sites(model, inputs)}
    name = sites[at].activation
    if any(sites[reader].feature_source != name for reader in readers):
        return False, False
    try:
        activation = dict(model.named_modules()).get(name) or as_module(name)
        return is_positively_homogeneous(activation), kind_of(activation).name in _ODD
    except ActivationError:
        return False, False
