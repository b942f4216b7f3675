"""Embeddings of a network in deeper and wider ones: lifts, splits, null neurons, and the manifold of lifts."""

from liftscape.embedding._approximate import ApproximatedSite, approximate_lift
from liftscape.embedding._chart import Chart, ComposedChart
from liftscape.embedding._depth import LiftedSite, lift
from liftscape.embedding._depth_chart import DepthChart
from liftscape.embedding._embed import WidenedSite, embed
from liftscape.embedding._embedding import Embedding
from liftscape.embedding._fibre import copies_block, fibre_block
from liftscape.embedding._gaps import EmbeddingGaps, largest_output_gap, measure_gaps
from liftscape.embedding._inertia_prediction import DepthLaw, InertiaPrediction
from liftscape.embedding._manifold import LiftedManifold, Membership
from liftscape.embedding._merge import Merge, merge
from liftscape.embedding._neuron_map import NeuronMap
from liftscape.embedding._width import add_null_neuron, split

__all__ = [
    "ApproximatedSite",
    "Chart",
    "ComposedChart",
    "DepthChart",
    "DepthLaw",
    "Embedding",
    "EmbeddingGaps",
    "InertiaPrediction",
    "LiftedManifold",
    "LiftedSite",
    "Membership",
    "Merge",
    "NeuronMap",
    "WidenedSite",
    "add_null_neuron",
    "approximate_lift",
    "copies_block",
    "embed",
    "fibre_block",
    "largest_output_gap",
    "lift",
    "measure_gaps",
    "merge",
    "split",
]
