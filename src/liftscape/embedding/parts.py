"""The parts of an exact lift that `escaping` builds insertions from; they may change without notice."""

from liftscape.embedding._choose import check_margin, choose_activation
from liftscape.embedding._depth_chart import InsertedLayer
from liftscape.embedding._draw import draw_frames, numerical_rank, place_on_pieces
from liftscape.embedding._occupied_layer import OccupiedLayer

__all__ = [
    "InsertedLayer",
    "OccupiedLayer",
    "check_margin",
    "choose_activation",
    "draw_frames",
    "numerical_rank",
    "place_on_pieces",
]
