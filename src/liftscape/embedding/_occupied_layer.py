"""An inserted layer and the affine pieces that its neurons occupy."""

from dataclasses import dataclass

from liftscape.activations import AffinePiece

__all__ = ["OccupiedLayer"]


@dataclass(frozen=True)
class OccupiedLayer:
    """An inserted layer and the piece that each of its neurons occupies.

    Attributes:
        name: full name of the map that makes the pre-activations.
        activation: name of the activation module.
        pieces: one piece a neuron.
    """

    name: str
    activation: str
    pieces: tuple[AffinePiece, ...]
