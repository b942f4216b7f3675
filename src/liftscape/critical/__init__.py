"""Critical points: found, planted, certified."""

from liftscape.critical._certify import Certificate, certify
from liftscape.critical._flatness import flatness
from liftscape.critical._higher_order import HigherOrderDescent, higher_order_descent
from liftscape.critical._kinks import KinkMargin, kink_margin
from liftscape.critical._many import CriticalPoints, find_critical_points
from liftscape.critical._plant import plant_critical_point
from liftscape.critical._search import CriticalSearch, SearchStep, find_critical_point
from liftscape.critical._symmetry import Symmetries, symmetry_tangents

__all__ = [
    "Certificate",
    "CriticalPoints",
    "CriticalSearch",
    "HigherOrderDescent",
    "KinkMargin",
    "SearchStep",
    "Symmetries",
    "certify",
    "find_critical_point",
    "find_critical_points",
    "flatness",
    "higher_order_descent",
    "kink_margin",
    "plant_critical_point",
    "symmetry_tangents",
]
