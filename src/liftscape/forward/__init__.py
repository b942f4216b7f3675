"""What a forward pass calls, recorded once, and one pass over the data for any number of observers."""

from liftscape.forward._affine import AFFINE, Affine, groups_of, pointwise_map, remade
from liftscape.forward._export import as_graph
from liftscape.forward._input_batches import Head, first_batch, head_of, iterate_inputs
from liftscape.forward._modules import ModuleFacts
from liftscape.forward._neurons import Neurons
from liftscape.forward._operation_table import Operation, is_random, operation_of, plain_name
from liftscape.forward._pass import Call, ForwardPass
from liftscape.forward._places import Inputs, Observation, Outputs, Pairs, Place
from liftscape.forward._record import record
from liftscape.forward._replace import copy_with
from liftscape.forward._site_refusals import REFUSALS, Refusal, refusal_of
from liftscape.forward._stream import Each, Observer, observing, stream

__all__ = [
    "AFFINE",
    "REFUSALS",
    "Affine",
    "Call",
    "Each",
    "ForwardPass",
    "Head",
    "Inputs",
    "ModuleFacts",
    "Neurons",
    "Observation",
    "Observer",
    "Operation",
    "Outputs",
    "Pairs",
    "Place",
    "Refusal",
    "as_graph",
    "copy_with",
    "first_batch",
    "groups_of",
    "head_of",
    "is_random",
    "iterate_inputs",
    "observing",
    "operation_of",
    "plain_name",
    "pointwise_map",
    "record",
    "refusal_of",
    "remade",
    "stream",
]
