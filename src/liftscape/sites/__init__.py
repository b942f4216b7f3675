"""The affine maps at which a layer can be inserted, and how far two networks are from each other on data."""

from liftscape.sites._find import Site, find_sites, require_site
from liftscape.sites._gap import change_of_outputs, changes_of_outputs, drawing_alike, output_gap, outputs_of
from liftscape.sites._parallel import Parallel

__all__ = [
    "Parallel",
    "Site",
    "change_of_outputs",
    "changes_of_outputs",
    "drawing_alike",
    "find_sites",
    "output_gap",
    "outputs_of",
    "require_site",
]
