"""What the demo says about escapes from worse minima."""

from dataclasses import dataclass

from liftscape.outcomes import Outcome

__all__ = ["EscapeStudy", "EscapedPoint"]


@dataclass(frozen=True)
class EscapedPoint(Outcome):
    """One minimum that was left.

    Attributes:
        point: label of the minimum.
        network: of it.
        value: R there.
        site: the map in front of which a layer was inserted.
        predicted: decrease that was predicted past the boundary of the pieces.
        decrease: that was measured.
        boundary: share of the path on the lifted manifold.
        path: places on the path, 0 to 1.
        path_loss: R there.
        escaped: R while the network past the boundary is trained.
        lifted: R while an exact lift, as large as the first network past the boundary, is trained likewise.
        grown: steps after which another layer was inserted.
    """

    point: str
    network: str
    value: float
    site: str
    predicted: float
    decrease: float
    boundary: float
    path: tuple[float, ...]
    path_loss: tuple[float, ...]
    escaped: tuple[float, ...]
    lifted: tuple[float, ...]
    grown: tuple[int, ...]


@dataclass(frozen=True)
class EscapeStudy(Outcome):
    """Escapes from the minima that are not the best.

    Attributes:
        best: label of the best shallow minimum of those found.
        level: R there.
        width: of the inserted layers.
        neurons: of them that leave their piece.
        activation: of them.
        steps: at which R was recorded.
        points: one for each worse minimum.
    """

    best: str
    level: float
    width: int
    neurons: int
    activation: str
    steps: tuple[int, ...]
    points: tuple[EscapedPoint, ...]
