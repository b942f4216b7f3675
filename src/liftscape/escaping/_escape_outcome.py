"""What an escape comes to: a network past the boundary, or that there is no way down here."""

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from liftscape.activations import AffinePiece
from liftscape.escaping._escape_path import EscapePath
from liftscape.outcomes import Outcome

__all__ = ["Escape", "EscapingNeuron"]


@dataclass(frozen=True)
class EscapingNeuron(Outcome):
    """A neuron t = a·h + c that left its piece.

    Attributes:
        direction: a, (m,); of a convolution a patch.
        bias: c.
        piece: that it left.
        out_weights: β, (D,).
    """

    direction: tuple[float, ...]
    bias: float
    piece: AffinePiece
    out_weights: tuple[float, ...]


@dataclass(frozen=True)
class Escape(Outcome):
    """A way down, or that none was found.

    Attributes:
        status: "found", or "none".
        model: the network past the boundary, new; without a way down a copy of the network as given.
        predicted_decrease: −slope − ½ curvature.
        decrease: R before − R after, measured on the data.
        path: from a lift of the stuck network over the boundary to the model; None without a way down.
        site: the map in front of which the layer stands.
        activation: of the layer.
        width: of the layer.
        rank: of W.
        neurons: that left.
        value: R before.
        slope: R′(0) along r ↦ z + r·Σβφ, r = 1 the model.
        curvature: R″(0) along it.
        exact: whether R is quadratic along it, so that the prediction is exact.
        guaranteed_decrease: what is proved beforehand, 0.0 where nothing is.
        rows: samples, or places of all samples.
        searched: how many of them the search for directions saw.
        reason: one sentence.
    """

    status: Literal["found", "none"]
    model: nn.Module
    predicted_decrease: float
    decrease: float
    path: EscapePath | None = field(repr=False)
    site: str
    activation: str
    width: int
    rank: int
    neurons: tuple[EscapingNeuron, ...]
    value: float
    slope: float
    curvature: float
    exact: bool
    guaranteed_decrease: float
    rows: int
    searched: int
    reason: str
