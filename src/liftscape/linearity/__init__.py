"""How linear each layer is on the data: piece occupancy and correlation."""

from liftscape.linearity._occupancy import Occupancy, activation_modules, piece_occupancy
from liftscape.linearity._table import LinearityRow, LinearityTable, layer_linearity, model_and_inputs

__all__ = [
    "LinearityRow",
    "LinearityTable",
    "Occupancy",
    "activation_modules",
    "layer_linearity",
    "model_and_inputs",
    "piece_occupancy",
]
