"""Where in a module affine maps and their activations sit, and how they are swapped."""

from liftscape.sites._features import first_batch, iterate_inputs, stream_features, stream_outputs, stream_pairs
from liftscape.sites._find import Site, find_sites, require_site
from liftscape.sites._neurons import stream_neurons
from liftscape.sites._replace import copy_with
from liftscape.sites._trace import Event, Trace, trace_call

__all__ = [
    "Event",
    "Site",
    "Trace",
    "copy_with",
    "find_sites",
    "first_batch",
    "iterate_inputs",
    "require_site",
    "stream_features",
    "stream_neurons",
    "stream_outputs",
    "stream_pairs",
    "trace_call",
]
