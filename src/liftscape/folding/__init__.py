"""The way back from depth: layers that are linear on the data fold away."""

from liftscape.folding._fold import Fold, FoldRow, fold

__all__ = ["Fold", "FoldRow", "fold"]
