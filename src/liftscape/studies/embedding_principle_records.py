"""The points of the embedding-principle study's result: plain frozen values, no tensors."""

from dataclasses import dataclass

from liftscape.outcomes import Outcome

__all__ = ["LiftedPoint", "ShallowPoint", "ShallowSearch", "Spectrum"]

Counts = tuple[int, int, int]


@dataclass(frozen=True)
class Spectrum(Outcome):
    """The Hessian's eigenvalues at one point, with what they certify.

    Attributes:
        label: what the point is.
        kind: the certificate's verdict.
        eigenvalues: in ascending order.
        tolerance: eigenvalues within ±tolerance count as zero.
        inertia: (n₋, n₀, n₊).
        gradient_norm: ‖∇R‖.
    """

    label: str
    kind: str
    eigenvalues: tuple[float, ...]
    tolerance: float
    inertia: Counts
    gradient_norm: float


@dataclass(frozen=True)
class ShallowSearch(Outcome):
    """What became of all starts for one shallow network.

    Attributes:
        network: activation and widths.
        starts: number of random starts.
        outcomes: number of starts for every status of the search.
        distinct: number of distinct critical points.
    """

    network: str
    starts: int
    outcomes: dict[str, int]
    distinct: int


@dataclass(frozen=True)
class ShallowPoint(Outcome):
    """A critical point of a shallow network.

    Attributes:
        label: short name.
        network: activation and widths.
        role: where it stands among the points found for its network.
        value: R.
        hits: number of starts that reached it.
        spectrum: eigenvalues, inertia, gradient norm and verdict.
    """

    label: str
    network: str
    role: str
    value: float
    hits: int
    spectrum: Spectrum


@dataclass(frozen=True)
class LiftedPoint(Outcome):
    """The certificate of one point of one lifted manifold.

    Attributes:
        point: label of the shallow critical point.
        network: its network.
        at: name of the affine map in front of which layers were inserted.
        activation: the inserted activation.
        layers: number of inserted layers.
        widths: their widths.
        sample: number of the point on its manifold, from 0.
        slopes: slope of the affine piece of every inserted neuron.
        output_gap: largest relative deviation of the outputs on the data.
        gradient_norm: ‖∇R‖.
        hessian_gap: ‖H' − JᵀHJ‖ / ‖H'‖.
        predicted: the inertia that the chart predicts.
        measured: the inertia of the dense Hessian.
        margin: smallest counted |λ| over the tolerance.
        decided: whether that margin is at least 10.
        as_predicted: whether the measured inertia is the predicted one, or within its bounds.
        dimension: dimension of the lifted manifold.
        added_nullity: n₀ of the lifted point minus n₀ of the shallow one.
        corank: corank of the chart's Jacobian.
        piece_margin: distance of the closest sample from the end of its neuron's affine piece.
        kink_margin: distance of the closest sample from a kink of any activation.
        kind: the certificate's verdict.
        tail: whether the pieces are affine tails, linear only up to a stated bound.
    """

    point: str
    network: str
    at: str
    activation: str
    layers: int
    widths: tuple[int, ...]
    sample: int
    slopes: tuple[tuple[float, ...], ...]
    output_gap: float
    gradient_norm: float
    hessian_gap: float
    predicted: str
    measured: Counts
    margin: float
    decided: bool
    as_predicted: bool
    dimension: int
    added_nullity: int
    corank: int
    piece_margin: float
    kink_margin: float
    kind: str
    tail: bool
