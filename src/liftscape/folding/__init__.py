"""The way back from depth: layers that are linear on the data fold away."""

from liftscape.folding._fold import Fold, FoldRow, fold
from liftscape.folding._runs import Run, find_runs

__all__ = ["Fold", "FoldRow", "Run", "find_runs", "fold"]
