"""Where in a module affine maps and their activations sit, and how they are swapped."""

from liftscape.sites._affine import AFFINE, Affine, groups_of, pointwise_map, remade
from liftscape.sites._attributes import attributes_read
from liftscape.sites._export import as_graph
from liftscape.sites._features import (
    first_batch,
    hearing_inputs,
    hearing_pairs,
    iterate_inputs,
    run_batches,
    stream_features,
    stream_outputs,
)
from liftscape.sites._find import Site, find_sites, require_site, trace_first
from liftscape.sites._gap import change_of_outputs, drawing_alike, output_gap, outputs_of
from liftscape.sites._neurons import hearing_neurons, stream_neurons
from liftscape.sites._parallel import Parallel
from liftscape.sites._replace import copy_with
from liftscape.sites._trace import Event, Trace, trace_call

__all__ = [
    "AFFINE",
    "Affine",
    "Event",
    "Parallel",
    "Site",
    "Trace",
    "as_graph",
    "attributes_read",
    "change_of_outputs",
    "copy_with",
    "drawing_alike",
    "find_sites",
    "first_batch",
    "groups_of",
    "hearing_inputs",
    "hearing_neurons",
    "hearing_pairs",
    "iterate_inputs",
    "output_gap",
    "outputs_of",
    "pointwise_map",
    "remade",
    "require_site",
    "run_batches",
    "stream_features",
    "stream_neurons",
    "stream_outputs",
    "trace_call",
    "trace_first",
]
