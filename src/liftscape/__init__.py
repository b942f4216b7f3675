"""liftscape shows where a neural network's training stands in its loss landscape, and moves it.

The public names are loaded on first use, so that importing the package costs nothing. Type checkers read the imports
below, which are not executed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from liftscape import checks as checks
    from liftscape import curvature as curvature
    from liftscape import data as data
    from liftscape import integrations as integrations
    from liftscape import nets as nets
    from liftscape import report as report
    from liftscape.activations import affine_pieces as affine_pieces
    from liftscape.critical import Certificate as Certificate
    from liftscape.critical import CriticalSearch as CriticalSearch
    from liftscape.critical import certify as certify
    from liftscape.critical import find_critical_point as find_critical_point
    from liftscape.critical import find_critical_points as find_critical_points
    from liftscape.critical import plant_critical_point as plant_critical_point
    from liftscape.embedding import Embedding as Embedding
    from liftscape.embedding import LiftedManifold as LiftedManifold
    from liftscape.embedding import NeuronMap as NeuronMap
    from liftscape.embedding import add_null_neuron as add_null_neuron
    from liftscape.embedding import approximate_lift as approximate_lift
    from liftscape.embedding import embed as embed
    from liftscape.embedding import lift as lift
    from liftscape.embedding import merge as merge
    from liftscape.embedding import split as split
    from liftscape.escaping import Escape as Escape
    from liftscape.escaping import escape as escape
    from liftscape.folding import Exact as Exact
    from liftscape.folding import Fold as Fold
    from liftscape.folding import LeastSquares as LeastSquares
    from liftscape.folding import Proved as Proved
    from liftscape.folding import collapse_residuals as collapse_residuals
    from liftscape.folding import fold as fold
    from liftscape.folding import fold_within as fold_within
    from liftscape.folding import trim as trim
    from liftscape.inspection import Inspection as Inspection
    from liftscape.inspection import inspect as inspect
    from liftscape.linearity import layer_linearity as layer_linearity
    from liftscape.outcomes import LiftscapeError as LiftscapeError
    from liftscape.risk import EmpiricalRisk as EmpiricalRisk
    from liftscape.sites import find_sites as find_sites
    from liftscape.storage import load as load
    from liftscape.storage import save as save
    from liftscape.training import Ensemble as Ensemble
    from liftscape.training import Growth as Growth
    from liftscape.training import GrowthSchedule as GrowthSchedule
    from liftscape.training import Monitor as Monitor
    from liftscape.training import carry_over as carry_over
    from liftscape.training import train_ensemble as train_ensemble

__version__ = "0.1.0"

_MODULE_OF = {
    "Certificate": "critical",
    "CriticalSearch": "critical",
    "Embedding": "embedding",
    "EmpiricalRisk": "risk",
    "Ensemble": "training",
    "Escape": "escaping",
    "Exact": "folding",
    "Fold": "folding",
    "Growth": "training",
    "GrowthSchedule": "training",
    "Inspection": "inspection",
    "LeastSquares": "folding",
    "LiftedManifold": "embedding",
    "LiftscapeError": "outcomes",
    "Monitor": "training",
    "NeuronMap": "embedding",
    "Proved": "folding",
    "add_null_neuron": "embedding",
    "affine_pieces": "activations",
    "approximate_lift": "embedding",
    "carry_over": "training",
    "certify": "critical",
    "collapse_residuals": "folding",
    "embed": "embedding",
    "escape": "escaping",
    "find_critical_point": "critical",
    "find_critical_points": "critical",
    "find_sites": "sites",
    "fold": "folding",
    "fold_within": "folding",
    "inspect": "inspection",
    "layer_linearity": "linearity",
    "lift": "embedding",
    "load": "storage",
    "merge": "embedding",
    "plant_critical_point": "critical",
    "save": "storage",
    "split": "embedding",
    "train_ensemble": "training",
    "trim": "folding",
}
_SUBPACKAGES = ("checks", "curvature", "data", "integrations", "nets", "report")

__all__ = ["__version__", *sorted(_MODULE_OF), *_SUBPACKAGES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import the module that defines a public name when the name is first used."""
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
