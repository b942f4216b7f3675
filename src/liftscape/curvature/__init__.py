"""Curvature: what the Hessian's spectrum says about a point."""

from liftscape.curvature._basis import Basis as Basis
from liftscape.curvature._block_curvature import LayerCurvature, block_curvature
from liftscape.curvature._block_curvature import layer_curvature_products as layer_curvature_products
from liftscape.curvature._density import SpectralDensity, spectral_density
from liftscape.curvature._diagonal import Diagonal, diagonal
from liftscape.curvature._eigenpairs import Eigenpairs, eigenpairs, most_negative_eigenpair
from liftscape.curvature._estimate import Estimate
from liftscape.curvature._fisher import fisher
from liftscape.curvature._forecast import Forecast, forecast
from liftscape.curvature._forecast import eigenpairs_products as eigenpairs_products
from liftscape.curvature._gauss_newton import gauss_newton
from liftscape.curvature._inertia import Inertia, inertia
from liftscape.curvature._inertia import inertia_of_spectrum as inertia_of_spectrum
from liftscape.curvature._layer_curvature import layer_curvature
from liftscape.curvature._layer_curvature import layer_sizes as layer_sizes
from liftscape.curvature._layer_entries import layers_of
from liftscape.curvature._partial_inertia import PartialInertia, partial_inertia
from liftscape.curvature._plateau import Plateau, plateau_reading
from liftscape.curvature._plateau import plateau_of_spectrum as plateau_of_spectrum
from liftscape.curvature._quadratic_model import newton_step as newton_step
from liftscape.curvature._recorded import recorded as recorded
from liftscape.curvature._slice_directions import (
    FlatManifold,
    direction_between,
    filter_normalised,
    normal_direction,
    random_direction,
    tangent_direction,
)
from liftscape.curvature._slices import Slice, Surface, slice_1d, slice_2d
from liftscape.curvature._trace_estimate import trace, trace_by_layer
from liftscape.curvature._trajectory import Trajectory, project_trajectory
from liftscape.curvature._work import Progress as Progress
from liftscape.derivatives import Hessian
from liftscape.operators import DenseOperator, IdentityOperator, SymmetricOperator

# What is imported under its own name and not listed is for liftscape's other packages.
__all__ = [
    "DenseOperator",
    "Diagonal",
    "Eigenpairs",
    "Estimate",
    "FlatManifold",
    "Forecast",
    "Hessian",
    "IdentityOperator",
    "Inertia",
    "LayerCurvature",
    "PartialInertia",
    "Plateau",
    "Slice",
    "SpectralDensity",
    "Surface",
    "SymmetricOperator",
    "Trajectory",
    "block_curvature",
    "diagonal",
    "direction_between",
    "eigenpairs",
    "filter_normalised",
    "fisher",
    "forecast",
    "gauss_newton",
    "inertia",
    "layer_curvature",
    "layers_of",
    "most_negative_eigenpair",
    "normal_direction",
    "partial_inertia",
    "plateau_reading",
    "project_trajectory",
    "random_direction",
    "slice_1d",
    "slice_2d",
    "spectral_density",
    "tangent_direction",
    "trace",
    "trace_by_layer",
]
