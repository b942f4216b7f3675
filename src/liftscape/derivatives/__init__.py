"""Gradients and Hessian-vector products at a fixed point, checked against differences of values."""

from liftscape.derivatives._chosen import chosen_parameters
from liftscape.derivatives._derivative_check import CheckedPoints, DerivativeCheck
from liftscape.derivatives._hessian import (
    GradientGraph,
    Hessian,
    backward_rows,
    flatten,
    gradient_graph,
    gradient_of,
    unflatten,
)
from liftscape.derivatives._point import Point, hold, slice_batch
from liftscape.derivatives._second_derivative import explain_derivative, refuse_hidden
from liftscape.derivatives._split import may_split, moved

__all__ = [
    "CheckedPoints",
    "DerivativeCheck",
    "GradientGraph",
    "Hessian",
    "Point",
    "backward_rows",
    "chosen_parameters",
    "explain_derivative",
    "flatten",
    "gradient_graph",
    "gradient_of",
    "hold",
    "may_split",
    "moved",
    "refuse_hidden",
    "slice_batch",
    "unflatten",
]
