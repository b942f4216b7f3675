"""How linear each layer is on the data: piece occupancy and correlation."""

from liftscape.linearity._called import foldable, runs_occupancy
from liftscape.linearity._composition import absorbed, composition, has_no_padding, in_fewer_groups, padding_of
from liftscape.linearity._criteria import block_influence, state_entropy
from liftscape.linearity._fit import INTERPOLATES, AffineFit, fit_runs, replace_run
from liftscape.linearity._linearity_table import (
    LinearityRow,
    LinearityTable,
    layer_linearity,
    model_and_inputs,
    rows_of,
)
from liftscape.linearity._maps import rows_read, rows_written
from liftscape.linearity._occupancy import (
    Occupancy,
    activation_modules,
    has_pieces,
    occupancy_between,
    piece_occupancy,
    watching_pieces,
)
from liftscape.linearity._runs import Run, find_runs
from liftscape.linearity._sums import chain_of, identity_like, sum_of

__all__ = [
    "INTERPOLATES",
    "AffineFit",
    "LinearityRow",
    "LinearityTable",
    "Occupancy",
    "Run",
    "absorbed",
    "activation_modules",
    "block_influence",
    "chain_of",
    "composition",
    "find_runs",
    "fit_runs",
    "foldable",
    "has_no_padding",
    "has_pieces",
    "identity_like",
    "in_fewer_groups",
    "layer_linearity",
    "model_and_inputs",
    "occupancy_between",
    "padding_of",
    "piece_occupancy",
    "replace_run",
    "rows_of",
    "rows_read",
    "rows_written",
    "runs_occupancy",
    "state_entropy",
    "sum_of",
    "watching_pieces",
]
