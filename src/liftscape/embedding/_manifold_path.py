"""Paths on a lifted manifold T_S(θ) with one inserted layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from liftscape.embedding._chart import Chart
from liftscape.embedding._depth_chart import DepthChart
from liftscape.embedding._factor_path import factor_path, factors_are_connected
from liftscape.embedding._occupied_layer import OccupiedLayer
from liftscape.functional import copy_model
from liftscape.outcomes import EmbeddingError
from liftscape.sites import AFFINE, groups_of, hearing_pairs, remade, run_batches

__all__ = ["path_between"]

# The middle of the path keeps this share of the room that each neuron has on its piece.
_SHARE = 0.5
_ENDS = 0.15


@dataclass(frozen=True)
class _Layer:
    """A point of the manifold: the inserted layer's parameters, float64; d follows. A Linear is one group."""

    A: Float[Tensor, "groups k m_in"]
    c: Float[Tensor, "groups k"]
    B: Float[Tensor, "groups m_out k"]


def path_between(
    networks: tuple[nn.Module, nn.Module],
    base: nn.Module,
    chart: Chart,
    layers: tuple[OccupiedLayer, ...],
    inputs: Any,
) -> Callable[[float], nn.Module]:
    """Return a path on T_S(θ) between two of its points, for fixed pieces and one inserted layer.

    A is shrunk towards the interior of the pieces with B growing in turn, the factorisation BΛA = W is moved there,
    and the other end is reached the same way. Outputs move by rounding, about 50·eps·‖B‖‖c‖/‖z‖.

    Source: derived (theory 3, Paths).

    Args:
        networks: two points of the manifold of a lift by one layer with bias.
        base: the smaller network θ.
        chart: π.
        layers: the inserted layers with their pieces.
        inputs: S.

    Returns:
        A callable of t in [0, 1]; 0 and 1 give copies of the two ends.

    Raises:
        EmbeddingError: if several layers were inserted, the maps have no bias, or the two networks lie in different
            components.
    """
    if not isinstance(chart, DepthChart) or len(layers) != 1:
        raise EmbeddingError(
            f"a path is built for one inserted layer, but {len(layers)} were inserted; lift by one layer."
        )
    layer, last = layers[0], chart.last
    if _parameter(networks[0], layer.name, "bias") is None:
        raise EmbeddingError(
            f"a path needs biases to stay inside the pieces, but '{layer.name}' has none; lift a map that has a bias."
        )
    groups = chart.groups
    weight, bias = (_parameter(base, chart.site, name) for name in ("weight", "bias"))
    assert weight is not None
    assert bias is not None
    weight = _matrices(weight, groups)
    slope = chart.layers[0].slope.reshape(groups, -1)
    intercept = chart.layers[0].intercept.reshape(groups, -1)
    ends = [_read(network, layer.name, last, groups) for network in networks]
    alive = slope != 0
    walks = [
        _walk(weight[group], slope[group], [(end.A[group], end.B[group]) for end in ends]) for group in range(groups)
    ]
    centre, room = _interior(layer, ends)
    scale = _shrinking(walks, slope, centre, room, ends, _largest_feature(base, chart.site, inputs))

    def at(t: float) -> _Layer:
        if t < _ENDS or t > 1 - _ENDS:
            end, share = (ends[0], t / _ENDS) if t < 0.5 else (ends[1], (1 - t) / _ENDS)
            shrunk = scale**share
            B = torch.where(alive[:, None], end.B / shrunk, end.B)
            return _Layer(shrunk * end.A, centre + shrunk * (end.c - centre), B)
        inner = (t - _ENDS) / (1 - 2 * _ENDS)
        A = scale * ((1 - inner) * ends[0].A + inner * ends[1].A)
        B = (1 - inner) * ends[0].B + inner * ends[1].B
        for group, walk in enumerate(walks):
            P, B_alive = walk(inner)
            own = alive[group]
            A[group, own], B[group][:, own] = scale * P / slope[group, own, None], B_alive / scale
        c = centre + scale * ((1 - inner) * ends[0].c + inner * ends[1].c - centre)
        return _Layer(A, c, B)

    def network(t: float) -> nn.Module:
        if t <= 0 or t >= 1:
            return copy_model(networks[0] if t <= 0 else networks[1])
        point = at(t)
        made = copy_model(networks[0])
        values = {
            (layer.name, "weight"): point.A,
            (layer.name, "bias"): point.c,
            (last, "weight"): point.B,
            (last, "bias"): bias - (point.B @ (slope * point.c + intercept)[..., None]).flatten(),
        }
        with torch.no_grad():
            for (module, name), value in values.items():
                own = getattr(made.get_submodule(module), name)
                own.copy_(value.reshape(own.shape))
        return made

    return network


def _walk(weight: Tensor, slope: Tensor, ends: list[tuple[Tensor, Tensor]]) -> Callable[[float], tuple[Tensor, Tensor]]:
    """Return the path of the alive factors ΛA and B of one group, or raise where its ends lie apart."""
    alive = slope != 0
    factors = [(slope[alive, None] * A[alive], B[:, alive]) for A, B in ends]
    if not factors_are_connected(weight, factors[0][0], factors[1][0]):
        raise EmbeddingError(
            f"the two networks lie in different components: with {int(alive.sum())} alive neurons = rank W the sign of "
            "det ΛA tells them apart, and no path on the manifold joins them; lift with one neuron more."
        )
    return factor_path(weight, factors[0], factors[1])


def _read(model: nn.Module, first: str, last: str, groups: int) -> _Layer:
    """Read the inserted layer off a network."""
    A, c, B = (_parameter(model, *where) for where in ((first, "weight"), (first, "bias"), (last, "weight")))
    assert A is not None
    assert c is not None
    assert B is not None
    return _Layer(_matrices(A, groups), c.reshape(groups, -1), _matrices(B, groups))


def _matrices(weight: Tensor, groups: int) -> Tensor:
    """Return one matrix a group."""
    return weight.flatten(1).unflatten(0, (groups, -1))


def _parameter(model: nn.Module, module: str, name: str) -> Tensor | None:
    """Return a parameter in float64 on the CPU, None where there is none."""
    tensor = getattr(model.get_submodule(module), name)
    return None if tensor is None else tensor.detach().to("cpu", torch.float64)


def _interior(layer: OccupiedLayer, ends: list[_Layer]) -> tuple[Tensor, Tensor]:
    """Return a point inside each neuron's piece and its distance to the ends; half-lines give as much as is used."""
    reach = torch.stack([end.c.abs() for end in ends]).amax(dim=0) + 1
    lower = torch.tensor([piece.lower for piece in layer.pieces], dtype=torch.float64).reshape(reach.shape)
    upper = torch.tensor([piece.upper for piece in layer.pieces], dtype=torch.float64).reshape(reach.shape)
    centre, room = torch.zeros_like(reach), reach.clone()
    bounded = torch.isfinite(lower) & torch.isfinite(upper)
    centre = torch.where(
        torch.isfinite(lower), lower + reach, torch.where(torch.isfinite(upper), upper - reach, centre)
    )
    centre = torch.where(bounded, (lower + upper) / 2, centre)
    room = torch.where(bounded, (upper - lower) / 2, room)
    return centre, room


def _shrinking(
    walks: list[Callable[[float], tuple[Tensor, Tensor]]],
    slope: Tensor,
    centre: Tensor,
    room: Tensor,
    ends: list[_Layer],
    feature: float,
) -> float:
    """Return the scale of A at which the middle of the path keeps inside the pieces for features of that norm."""
    norms = torch.stack([end.A.norm(dim=2) for end in ends]).amax(dim=0)
    for group, walk in enumerate(walks):
        alive = slope[group] != 0
        # The turn keeps norms, the straight legs have theirs at their ends: a coarse grid with slack bounds them.
        walked = torch.stack([walk(step / 64)[0].norm(dim=1) for step in range(65)]).amax(dim=0) * 1.5
        norms[group, alive] = torch.maximum(norms[group, alive], walked / slope[group, alive].abs())
    shift = torch.stack([(end.c - centre).abs() for end in ends]).amax(dim=0)
    return min(1.0, float((_SHARE * room / (norms * feature + shift).clamp_min(1e-300)).min()))


def _largest_feature(base: nn.Module, site: str, inputs: Any) -> float:
    """Return the largest norm of a feature, or of a patch in one group, that reaches the site on S."""
    largest = 0.0
    map_ = base.get_submodule(site)
    assert isinstance(map_, AFFINE)
    # One row of ones a group sums the squares of what each place reads.
    ones = torch.ones(groups_of(map_), *map_.weight.shape[1:], dtype=torch.float64)
    squares = remade(map_, ones, None).double()

    def receive(_pair: tuple[str, str], h: Tensor, _z: Tensor) -> None:
        nonlocal largest
        with torch.no_grad():
            largest = max(largest, float(squares(h.double().square()).amax().sqrt()))

    with hearing_pairs(base, [(site, site)], receive):
        run_batches(base, inputs)
    return largest
