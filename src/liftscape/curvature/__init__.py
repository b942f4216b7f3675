"""Curvature: what the Hessian's spectrum says about a point."""

from liftscape.curvature._fisher import fisher
from liftscape.curvature._gauss_newton import gauss_newton
from liftscape.curvature._inertia import Inertia, inertia, inertia_of_spectrum
from liftscape.risk import DenseOperator, Hessian, SymmetricOperator

__all__ = [
    "DenseOperator",
    "Hessian",
    "Inertia",
    "SymmetricOperator",
    "fisher",
    "gauss_newton",
    "inertia",
    "inertia_of_spectrum",
]
