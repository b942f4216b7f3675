"""The way down: inserting a layer whose neurons leave their affine pieces where that lowers the risk most."""

from liftscape.escaping._escape import escape
from liftscape.escaping._escape_outcome import Escape, EscapingNeuron
from liftscape.escaping._escape_path import EscapePath
from liftscape.escaping._thresholds import Thresholds, best_thresholds

__all__ = ["Escape", "EscapePath", "EscapingNeuron", "Thresholds", "best_thresholds", "escape"]
