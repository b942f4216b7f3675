"""The path of an escape: along the lifted manifold to the boundary of the pieces, and down."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor, nn

from liftscape.embedding import DepthChart, LiftedManifold
from liftscape.embedding.parts import InsertedLayer, OccupiedLayer, place_on_pieces
from liftscape.escaping._crossings import Crossing
from liftscape.escaping._insertion import Insertion, Stage
from liftscape.functional import copy_model, trainable_parameters
from liftscape.outcomes import Outcome

__all__ = ["EscapePath", "escape_path", "stages"]


@final
@dataclass(frozen=True)
class EscapePath(Outcome):
    """A continuous path of networks t ∈ [0, 1] ↦ θ′(t) of one depth.

    For t < boundary every network is a lift of the stuck one, with all samples inside the pieces, and R is constant; at
    t = boundary samples sit on the ends. For a kink the risk falls from there. Over a curved end the neurons, with
    out-weights zero, first go where they are most useful; from t = departure on the out-weights grow and R falls.

    Attributes:
        boundary: where the path leaves the lifted manifold.
        departure: where the risk begins to fall.
        manifold: T_S, which holds the path before the boundary.
    """

    boundary: float
    departure: float
    manifold: LiftedManifold = field(repr=False)
    _legs: tuple[Callable[[float], nn.Module], ...] = field(repr=False)

    def __call__(self, t: float) -> nn.Module:
        """Return the network at t.

        Args:
            t: from 0, the lifted network, to 1, the one past the boundary.

        Returns:
            A new network.
        """
        place = min(max(t, 0.0), 1.0) * len(self._legs)
        leg = min(int(place), len(self._legs) - 1)
        return self._legs[leg](place - leg)

    def to_dict(self) -> dict[str, Any]:
        """Return where the path leaves the manifold and where it begins to fall.

        Returns:
            A dict that :mod:`json` can write.
        """
        return {"boundary": self.boundary, "departure": self.departure}


def stages(
    crossing: Crossing,
    in_weights: Tensor,
    biases: Tensor,
    low: Tensor,
    high: Tensor,
    margin: float,
) -> tuple[Stage, ...]:
    """Return the corners of the path: inside, on the boundary, past it; over a curved end also placed past it.

    At a kink the in-weights shrink to zero and grow again to where they lead, so that all samples reach the end of the
    piece at once and φ is proportional to the way past it.

    Args:
        crossing: the way out.
        in_weights: a_j, (p, m).
        biases: c_j past the boundary, (p,).
        low: smallest a_j·h, (p,).
        high: largest.
        margin: distance to the ends as a share of the range.

    Returns:
        The stages.
    """
    pieces = [crossing.piece] * len(in_weights)
    ends = torch.full_like(biases, crossing.end)
    if not crossing.is_kink:
        inside = place_on_pieces(low, high, pieces, margin)[1]
        touching = ends - (high if crossing.side > 0 else low)
        return Stage(1.0, inside, 0.0), Stage(1.0, touching, 0.0), Stage(1.0, biases, 0.0), Stage(1.0, biases, 1.0)
    scale = float(place_on_pieces(low, high, pieces, margin)[0].min())
    inside = place_on_pieces(scale * low, scale * high, pieces, margin)[1]
    return Stage(scale, inside, 1.0), Stage(0.0, ends, 1.0), Stage(1.0, biases, 1.0)


def escape_path(
    base: nn.Module,
    name: str,
    insertion: Insertion,
    corners: tuple[Stage, ...],
    inputs: object,
    redraw: Callable[[torch.Generator | None], nn.Module],
    lifted: LiftedManifold | None,
) -> EscapePath:
    """Return the path through the corners, from the lifted network where one is given.

    Args:
        base: the stuck network.
        name: of the map.
        insertion: the layer.
        corners: from :func:`stages`.
        inputs: the data.
        redraw: draws another point of the manifold.
        lifted: the manifold of a lift to start from.

    Returns:
        The path.
    """

    def between(first: Stage, last: Stage) -> Callable[[float], nn.Module]:
        return lambda t: insertion.network(base, name, _mixed(first, last, t))

    legs = [between(first, last) for first, last in pairwise(corners)]
    before = 0
    if lifted is not None:
        legs.insert(0, lifted.path(insertion.network(base, name, corners[0])))
        before = 1
    manifold = lifted or _manifold(base, name, insertion, corners[0], inputs, redraw)
    boundary = (before + 1) / len(legs)
    return EscapePath(boundary, (len(legs) - 1) / len(legs), manifold, tuple(legs))


def _manifold(
    base: nn.Module,
    name: str,
    insertion: Insertion,
    start: Stage,
    inputs: object,
    redraw: Callable[[torch.Generator | None], nn.Module],
) -> LiftedManifold:
    """Return the manifold that the first corner is a point of."""
    lines = (
        torch.tensor([getattr(piece, key) for piece in insertion.pieces], dtype=torch.float64)
        for key in ("slope", "intercept")
    )
    first, activation, last = (f"{name}.{child}" for child in ("A", "activation", "B"))
    chart = DepthChart(name, (InsertedLayer(first, *lines),), last, tuple(trainable_parameters(base)))
    layer = OccupiedLayer(first, activation, insertion.pieces)
    return LiftedManifold(insertion.network(base, name, start), copy_model(base), chart, (layer,), inputs, redraw)


def _mixed(first: Stage, last: Stage, t: float) -> Stage:
    """Return the stage between two."""
    mix = lambda a, b: (1 - t) * a + t * b
    return Stage(mix(first.scale, last.scale), mix(first.biases, last.biases), mix(first.share, last.share))
