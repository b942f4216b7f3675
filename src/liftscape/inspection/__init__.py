"""One reading of a network for the person who trains it."""

from liftscape.inspection._inspect import Inspection, inspect
from liftscape.inspection._use import LayerUse, layer_uses

__all__ = ["Inspection", "LayerUse", "inspect", "layer_uses"]
