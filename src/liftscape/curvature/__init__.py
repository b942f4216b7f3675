"""Curvature: what the Hessian's spectrum says about a point."""

from liftscape.curvature._diagonal import Diagonal, diagonal
from liftscape.curvature._directions import (
    FlatManifold,
    direction_between,
    filter_normalised,
    normal_direction,
    random_direction,
    tangent_direction,
)
from liftscape.curvature._estimate import Estimate
from liftscape.curvature._fisher import fisher
from liftscape.curvature._gauss_newton import gauss_newton
from liftscape.curvature._inertia import Inertia, inertia, inertia_of_spectrum
from liftscape.curvature._layers import layers_of
from liftscape.curvature._slices import Slice, Surface, slice_1d, slice_2d
from liftscape.curvature._trace import trace, trace_by_layer
from liftscape.curvature._trajectory import Trajectory, project_trajectory
from liftscape.risk import DenseOperator, Hessian, SymmetricOperator

__all__ = [
    "DenseOperator",
    "Diagonal",
    "Estimate",
    "FlatManifold",
    "Hessian",
    "Inertia",
    "Slice",
    "Surface",
    "SymmetricOperator",
    "Trajectory",
    "diagonal",
    "direction_between",
    "filter_normalised",
    "fisher",
    "gauss_newton",
    "inertia",
    "inertia_of_spectrum",
    "layers_of",
    "normal_direction",
    "project_trajectory",
    "random_direction",
    "slice_1d",
    "slice_2d",
    "tangent_direction",
    "trace",
    "trace_by_layer",
]
