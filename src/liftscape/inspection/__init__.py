"""One reading of a network for the person who trains it."""

from liftscape.inspection._inspect import Inspection, inspect

__all__ = ["Inspection", "inspect"]
