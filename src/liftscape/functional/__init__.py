"""The network as a pure function f_θ(x) whose derivatives are those of its output, and what a call leaves as it was."""

from liftscape.functional._call import arguments_of, at_every_place, call_model, copy_model
from liftscape.functional._hooks import hooked
from liftscape.functional._inputs import MODEL_ERRORS, few_samples, inputs_named
from liftscape.functional._kernels import twice_differentiable
from liftscape.functional._nodes import new_nodes
from liftscape.functional._outputs import loss_tensor, main_tensor, map_tensors, named_tensors, output_tensor
from liftscape.functional._parameters import fitting, require_module, trainable_parameters
from liftscape.functional._rounding import RandomRounding
from liftscape.functional._untouched import random_states, untouched

__all__ = [
    "MODEL_ERRORS",
    "RandomRounding",
    "arguments_of",
    "at_every_place",
    "call_model",
    "copy_model",
    "few_samples",
    "fitting",
    "hooked",
    "inputs_named",
    "loss_tensor",
    "main_tensor",
    "map_tensors",
    "named_tensors",
    "new_nodes",
    "output_tensor",
    "random_states",
    "require_module",
    "trainable_parameters",
    "twice_differentiable",
    "untouched",
]
