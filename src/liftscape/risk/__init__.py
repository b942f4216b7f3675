"""R_S(θ) as a pure function, with its gradient and its Hessian as an operator."""

from liftscape.risk._batches import Batch, Batches, as_batches
from liftscape.risk._call import arguments_of, at_every_place, call_model, copy_model
from liftscape.risk._chosen import chosen_parameters
from liftscape.risk._finite import all_finite, require_finite_product
from liftscape.risk._function import check_batch_statistics, check_real, check_repeatable
from liftscape.risk._graph_operator import Graph, GraphOperator, Plan
from liftscape.risk._hessian import Hessian, flatten, unflatten
from liftscape.risk._inputs import MODEL_ERRORS, few_samples, inputs_named
from liftscape.risk._kernels import twice_differentiable
from liftscape.risk._operator import DenseOperator, SymmetricOperator, as_operator
from liftscape.risk._outputs import main_tensor, map_tensors, named_tensors, output_tensor
from liftscape.risk._parameters import require_module, trainable_parameters
from liftscape.risk._point import Point, slice_batch
from liftscape.risk._risk import EmpiricalRisk
from liftscape.risk._rounding import RandomRounding
from liftscape.risk._untouched import untouched

__all__ = [
    "MODEL_ERRORS",
    "Batch",
    "Batches",
    "DenseOperator",
    "EmpiricalRisk",
    "Graph",
    "GraphOperator",
    "Hessian",
    "Plan",
    "Point",
    "RandomRounding",
    "SymmetricOperator",
    "all_finite",
    "arguments_of",
    "as_batches",
    "as_operator",
    "at_every_place",
    "call_model",
    "check_batch_statistics",
    "check_real",
    "check_repeatable",
    "chosen_parameters",
    "copy_model",
    "few_samples",
    "flatten",
    "inputs_named",
    "main_tensor",
    "map_tensors",
    "named_tensors",
    "output_tensor",
    "require_finite_product",
    "require_module",
    "slice_batch",
    "trainable_parameters",
    "twice_differentiable",
    "unflatten",
    "untouched",
]
