"""Symmetric linear operators of one type, whatever computes the product."""

from liftscape.operators._finite import all_finite, require_finite_product
from liftscape.operators._graph_operator import Graph, GraphOperator, Plan, explained
from liftscape.operators._matrices import DenseOperator, IdentityOperator, as_operator
from liftscape.operators._operator import Operator, SymmetricOperator

__all__ = [
    "DenseOperator",
    "Graph",
    "GraphOperator",
    "IdentityOperator",
    "Operator",
    "Plan",
    "SymmetricOperator",
    "all_finite",
    "as_operator",
    "explained",
    "require_finite_product",
]
