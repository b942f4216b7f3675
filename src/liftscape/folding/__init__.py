"""The way back from depth: layers that are linear on the data fold away."""

from liftscape.folding._bounds import interval_bounds
from liftscape.folding._fold import fold
from liftscape.folding._fold_outcome import Fold, FoldRow
from liftscape.folding._fold_within import FoldSearch, FoldStep, fold_within
from liftscape.folding._linear_bounds import linear_bounds
from liftscape.folding._methods import Exact, FoldMethod, LeastSquares, Proved
from liftscape.folding._operation_count import operations
from liftscape.folding._residual import Collapse, CollapseRow, collapse_residuals
from liftscape.folding._sameness import Sameness, search_difference
from liftscape.folding._trim import Trim, TrimRow, trim
from liftscape.sites import output_gap

__all__ = [
    "Collapse",
    "CollapseRow",
    "Exact",
    "Fold",
    "FoldMethod",
    "FoldRow",
    "FoldSearch",
    "FoldStep",
    "LeastSquares",
    "Proved",
    "Sameness",
    "Trim",
    "TrimRow",
    "collapse_residuals",
    "fold",
    "fold_within",
    "interval_bounds",
    "linear_bounds",
    "operations",
    "output_gap",
    "search_difference",
    "trim",
]
