"""Networks on disk: the weights of an embedded or folded network, and the recipe that leads there from its base."""

from liftscape.storage._format import RECIPE, WEIGHTS
from liftscape.storage._load import load
from liftscape.storage._save import check_destination, save
from liftscape.storage._weights import load_strictly, read_weights

__all__ = ["RECIPE", "WEIGHTS", "check_destination", "load", "load_strictly", "read_weights", "save"]
